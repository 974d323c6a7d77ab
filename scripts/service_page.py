"""The page of the service's calls, drawn from its route table."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.queue import QueueSettings
from pilot.queue.service.app import CALLS
from pilot.queue.service.call import Call, Spoken
from pilot.queue.service.face import Face
from pilot.queue.service.meter import Meter
from pilot.queue.service.openapi import roles_of
from pilot.queue.service.state import Service, Setting
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from pilot.wire.calls import VERSION

HEAD = f"""# The calls of `pilot queue serve`

Version {VERSION} of our own calls. A server that has them says so in its answer to `/api/v1/system/is_alive`; to one
that does not, none of them is sent. The same in OpenAPI 3.1, with every type: `/api/v1/grid/openapi.json` of a running
service.

A call is a POST of one JSON object with the field `queue` (a name, `default` where it is left out) beside its
arguments, or a GET with a query. `Authorization: Bearer TOKEN` says who calls. An answer stands in PanDA's envelope,
`{{"success", "message", "data"}}`; a refusal is `success: false`, one clear line in `message`, and `data: {{"code",
"kind"}}`: a fault's code, and whether asking again may help (`passing`) or not (`final`; `unknown`: something was named
that is not there). Values are written without the fields that stand at their default.
"""


def page() -> str:
    """The whole page, from a service over an empty queue."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.db"
        create_store(path)
        store = open_store(path)
        write_settings(store, QueueSettings("default", "owner"))
        store.close()
        service, meter = Service(Setting(path, ClassAdMatcher())), Meter()
        try:
            face = Face(service, meter)
            rows = (*CALLS, *face.calls(CALLS))
            told = list(numbers(face))
            face.close()
        finally:
            service.close()
    own = (each for each in rows if each.spoken is not Spoken.PANDA)
    panda = (each for each in rows if each.spoken is Spoken.PANDA)
    parts = [HEAD, "## Our own\n", *table(own), "\n## PanDA's\n", *table(panda), NUMBERS, *told]
    return "\n".join(parts) + "\n"


def table(calls: Iterable[Call]) -> Iterator[str]:
    """One line a call."""
    yield "| call | who | what it does | takes |"
    yield "| --- | --- | --- | --- |"
    for each in calls:
        takes = "; ".join(f"`{name}`: {text}" for name, text in each.query.items())
        told = f"`{each.takes.__name__}`" if each.takes else takes
        yield f"| `{each.method} {each.path}` | {roles_of(each)} | {each.what} | {told} |"


NUMBERS = """
## Numbers

What `/metrics` tells; `?format=influx` tells the same in Influx line protocol. Gauges bear the label `queue`.

| name | kind | meaning |
| --- | --- | --- |"""


def numbers(face: Face) -> Iterator[str]:
    """One line a number."""
    for family in face.numbers().collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield f"| `{name}` | {family.type} | {family.documentation} |"
