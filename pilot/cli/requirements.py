"""The site's own `requirements`, checked before anything is matched with them."""

from pilot.config.problems import Problem
from pilot.config.settings import Effective


def problems(found: Effective) -> tuple[Problem, ...]:
    """What is wrong with the expression, and where it was given; the library is imported only where there is one."""
    if not found.settings.requirements:
        return ()
    from pilot.assemble.submission import refusal

    why = refusal(found.settings.requirements)
    if not why:
        return ()
    origin = dict(found.origins)["requirements"]
    source, *place = origin.rsplit(":", 2)
    if len(place) == 2 and all(map(str.isdecimal, place)):
        return (Problem(source, int(place[0]), int(place[1]), f"requirements: {why}"),)
    return (Problem(origin, 0, 0, f"requirements: {why}"),)
