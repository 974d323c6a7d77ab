"""What a site says of its PanDA queue (CRIC's JSON), as far as a pilot acts on it."""

import re
from collections.abc import Iterator
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
    """One queue; sizes in bytes, times in seconds, 0 = no limit. `endpoints` are those it may write to, best first."""

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


def queue_data(data: object, name: str) -> QueueData:
    """The queue of that name in a document of one queue or of many; raises WireError for one that is no use."""
    one = _one(record(data, "queue data"), name)
    state = text(one, "state")
    if state not in ("", "ACTIVE"):
        raise WireError(f"the queue {name} is {shown(state)}, not ACTIVE")
    status = text(one, "status")
    if status not in STATUSES:
        raise WireError(f"the queue {name} has the status {shown(status)}, which is not known here")
    catchall = text(one, "catchall")
    return QueueData(
        name=text(one, "nickname") or name,
        resource=text(one, "panda_resource") or name,
        site=text(one, "atlas_site") or text(one, "gstat") or text(one, "panda_resource") or name,
        status=STATUSES[status],
        cores=number(one, "corecount", 0),
        limits=_limits(one),
        timefloor_seconds=number(one, "timefloor", 0) * 60,
        image_base=_image_base(catchall),
        environ=tuple(_environ(text(one, "environ"))),
        endpoints=tuple(_endpoints(one)),
        hardware="no_target_architecture" not in catchall,
        renewal="no_token_renewal" not in catchall,
    )


def _limits(one: Record) -> Limits:
    params = one.get("params")
    graces = record(params, "params") if params else {}
    return Limits(
        memory_bytes=number(one, "maxrss", 0) * MIB,
        scratch_bytes=number(one, "maxwdir", 0) * MIB,
        input_bytes=number(one, "maxinputsize", 0) * MIB,
        walltime_seconds=number(one, "maxtime", 0),
        memory_grace=number(graces, "pilot_rss_grace", 0),
        scratch_grace=number(graces, "pilot_maxwdir_grace", 0),
        walltime_grace=number(graces, "pilot_walltime_grace", 0),
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
