"""What a site says of its PanDA queue (CRIC's JSON), as far as a pilot acts on it."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pilot.wire.envelope import WireError, shown
from pilot.wire.reading import Record, number, record, text
from pilot.wire.site import Limits

MIB = 1 << 20
TEST = "test"
# PanDA's states of a queue -> what a pilot does there; in brokeroff jobs that are assigned are still given out.
STATUSES = {"online": "online", "brokeroff": "online", "test": "test", "offline": "offline", "": "online"}
_LONGEST_ENVIRON = 4000  # characters: what PanDA's own column holds
# Plain assignments: values with spaces in quotes.
_VARIABLE = re.compile(r"""(?:^|(?<=[\s;]))([A-Za-z_][A-Za-z0-9_]{0,127})=("[^"]*"|'[^']*'|[^\s;"']*)(?=[\s;]|$)""")
# What decides how programs are found and loaded, or who the pilot is: never a site's word to a payload.
_NOT_OURS = re.compile(r"PATH|HOME|TMPDIR|LD_.*|PILOT_.*|X509_.*|.*TOKEN.*|(APPTAINER|SINGULARITY).*")


@dataclass(frozen=True, slots=True)
class QueueData:
    """One queue; sizes in bytes, times in seconds, 0 = no limit. `endpoints` are those it may write to, best first.

    `notes` says what is written there and could not be understood: it counts as not written.
    """

    name: str
    resource: str
    site: str
    status: str = "online"
    cores: int = 0
    limits: Limits = Limits()  # noqa: RUF009  frozen, like the default that it is
    timefloor_seconds: int = 0
    image_base: str = ""
    environ: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[str, ...] = ()
    hardware: bool = True
    renewal: bool = True
    notes: tuple[str, ...] = ()


def queue_data(data: object, name: str) -> QueueData:
    """The queue of that name in a document of one queue or of many; raises WireError for one that is no use."""
    one = _one(record(data, "queue data"), name)
    state = text(one, "state")
    if state not in ("", "ACTIVE"):
        raise WireError(f"the queue {name} is {shown(state)}, not ACTIVE")
    status, notes = text(one, "status"), list[str]()
    if status not in STATUSES:
        notes.append(f"status: {shown(status)} is not known here: taken as online")
    catchall = text(one, "catchall")
    return QueueData(
        name=text(one, "nickname") or name,
        resource=text(one, "panda_resource") or name,
        site=text(one, "atlas_site") or text(one, "gstat") or text(one, "panda_resource") or name,
        status=STATUSES[status if status in STATUSES else ""],
        cores=_number(one, "corecount", notes),
        limits=_limits(one, notes),
        timefloor_seconds=_number(one, "timefloor", notes) * 60,
        image_base=_image_base(catchall),
        environ=tuple(_environ(text(one, "environ"))),
        endpoints=tuple(_endpoints(one)),
        hardware="no_target_architecture" not in catchall,
        renewal="no_token_renewal" not in catchall,
        notes=tuple(notes),
    )


def _number(one: Record, key: str, notes: list[str]) -> int:
    """A whole number; of a fraction its whole part, and of what is no number none: no slip in a form stops a queue."""
    value = one.get(key)
    try:
        return number({key: math.floor(value)}, key) if isinstance(value, float) else number(one, key, 0)
    except (WireError, ValueError, OverflowError):
        notes.append(f"{key}: {shown(value)} is no number that a queue can have: ignored")
        return 0


def _limits(one: Record, notes: list[str]) -> Limits:
    params = one.get("params")
    graces: Record = params if isinstance(params, Mapping) else {}
    return Limits(
        memory_bytes=_number(one, "maxrss", notes) * MIB,
        scratch_bytes=_number(one, "maxwdir", notes) * MIB,
        input_bytes=_number(one, "maxinputsize", notes) * MIB,
        walltime_seconds=_number(one, "maxtime", notes),
        memory_grace=_number(graces, "pilot_rss_grace", notes),
        scratch_grace=_number(graces, "pilot_maxwdir_grace", notes),
        walltime_grace=_number(graces, "pilot_walltime_grace", notes),
    )


def _environ(said: str) -> Iterator[tuple[str, str]]:
    """The plain `NAME=VALUE` in a site's words; commands, references and loaders' switches are none."""
    for name, value in _VARIABLE.findall(said[:_LONGEST_ENVIRON]):
        plain = value.strip("\"'")
        if plain.isprintable() and not any(each in plain for each in "$`") and not _NOT_OURS.fullmatch(name):
            yield name, plain


def _one(data: Record, name: str) -> Record:
    if "nickname" in data or "panda_resource" in data:
        return data
    if name not in data:
        raise WireError(f"the queue {name} is not in the queue data")
    return record(data[name], name)


def _image_base(catchall: str) -> str:
    found = [each.removeprefix("IMAGE_BASE=") for each in catchall.replace(",", " ").split() if "IMAGE_BASE=" in each]
    return found[0] if found else ""


def _endpoints(one: Record) -> Iterator[str]:
    """Where outputs may go, best first: the write activities of `astorages`."""
    storages = one.get("astorages")
    known = record(storages, "astorages") if storages else {}
    for activity in ("write_lan", "pw", "write_wan"):
        listed = known.get(activity)
        yield from (each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, str))


def label_of(label: str, status: str) -> str:
    """The label that jobs are asked with: in a queue under test only tests are given out, whatever was configured."""
    return TEST if status == TEST and label in ("user", "managed", "unified") else label
