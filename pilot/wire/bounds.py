"""What a site's limits make of what a job asks for: never more than the queue gives, graces where there is room.

A grace lets a job go beyond its own wish by so many percent. It is taken from what the claim left free, and never asked
of the server: a job that fills the whole slot still fits it.
"""

from collections.abc import Sequence
from dataclasses import replace

from pilot.model.job import Needs
from pilot.wire.definition import FileIn
from pilot.wire.envelope import WireError
from pilot.wire.site import Site

MIB = 1 << 20


def least(*limits: int) -> int:
    """The smallest of the limits that there are; 0 where there is none."""
    return min((each for each in limits if each), default=0)


def bounded(needs: Needs, site: Site) -> Needs:
    """The needs as this queue grants them; a job that names no scratch space gets what the queue gives each."""
    limits, room = site.limits, site.room
    scratch = needs.scratch_bytes or least(limits.scratch_bytes, room.scratch_bytes)
    walltime = _graced(needs.walltime_seconds, limits.walltime_grace, 0)
    return replace(
        needs,
        memory_bytes=_graced(needs.memory_bytes, limits.memory_grace, room.memory_bytes),
        scratch_bytes=_graced(scratch, limits.scratch_grace, room.scratch_bytes),
        walltime_seconds=least(walltime, limits.walltime_seconds),
    )


def _graced(asked: int, percent: int, room: int) -> int:
    """What is asked and the grace above it, as far as there is room; never less than what is asked."""
    if not asked:
        return 0
    more = asked * (100 + percent) // 100
    return max(asked, least(more, room))


def check_inputs(inputs: Sequence[FileIn], site: Site) -> None:
    """Raises WireError where the inputs, as far as their sizes are known, are more than the queue takes."""
    total, most = sum(each.size or 0 for each in inputs), site.limits.input_bytes
    if most and total > most:
        have, may = -(-total // MIB), most // MIB
        raise WireError(f"inFiles: {have} MiB, and the queue takes at most {may} MiB of inputs (maxinputsize)")
