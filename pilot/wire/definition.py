"""PanDA's job definition as one strict value: the sixty loose texts of its `acquire_jobs` reply, read once."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot.model.job import Needs
from pilot.wire.envelope import WireError, cleaned, shown
from pilot.wire.places import checked_name
from pilot.wire.reading import Record, flag, listing, number, parallel, record, text
from pilot.wire.wishes import gpu_wishes

MIB = 1 << 20
LONGEST_PARAMETERS = 200_000  # characters: more than Linux passes on, for percent signs and lists of files stand in it
MOST_FILES = 5000  # of one job, in or out; tasks are made of jobs with some hundreds
_LONGEST_NAME = 512  # characters of a job's name that are looked at
_LONGEST_TIME = 366 * 86_400  # seconds: what is longer is no limit
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

# What a job may be that this pilot does not do, each by the key that says so.
REFUSED = {
    "eventService": "event service",
    "eventServiceMerge": "merging of event service outputs",
    "cloneJob": "cloned jobs",
    "writeToFile": "lists of inputs written to files",
    "usePrefetcher": "the prefetcher",
    "inFilePosEvtNum": "positional event numbers",
    "onSiteMerging": "merging on site",
    "secrets": "secrets for payloads",
    "coprocess": "a process beside the payload",
}
_INNER_SCRIPT = "__run_main_exec.sh"  # what PanDA's own scripts leave for the container


@dataclass(frozen=True, slots=True)
class FileIn:
    """One input as PanDA names it; `checksum` as `ad:` or `md:` and hexadecimal digits."""

    name: str
    scope: str
    endpoint: str
    size: int | None = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class FileOut:
    """One output as PanDA names it, or the archive of the logs."""

    name: str
    scope: str
    endpoint: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """One job of PanDA's; times in seconds, sizes in bytes, what PanDA left open is empty."""

    job_id: str
    attempt: int
    name: str
    transformation: str
    parameters: str
    task: str = ""
    user: str = ""
    label: str = ""
    kind: str = ""
    image: str = ""
    image_base: str = ""
    needs: Needs = field(default_factory=Needs)
    inputs: tuple[FileIn, ...] = ()
    outputs: tuple[FileOut, ...] = ()
    log: FileOut | None = None
    log_guid: str = ""
    hpo: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """What even a definition that cannot be translated must tell, for somebody has to report it."""

    job_id: str
    attempt: int


def identity_of(data: Record) -> Identity:
    """Which attempt of which job; raises WireError where even that is not told."""
    return Identity(str(number(data, "PandaID")), number(data, "attemptNr", 0))


def read_definition(data: Record, image_base: str = "", alike: bool = False) -> Definition:
    """The job in that object; raises WireError for what is no job, or none for this pilot.

    `image_base` stands before relative names of images; `alike` says that the server chose by devices all of one kind.
    """
    known = identity_of(data)
    for key, what in REFUSED.items():
        if _asked(data.get(key)):
            raise WireError(f"{key}: this pilot does not do {what}")
    return Definition(
        job_id=known.job_id,
        attempt=known.attempt,
        name=job_name(text(data, "jobName"), known.job_id),
        transformation=text(data, "transformation"),
        parameters=_parameters(text(data, "jobPars")),
        task=text(data, "taskID"),
        user=text(data, "prodUserID"),
        label=text(data, "prodSourceLabel"),
        kind=text(data, "processingType"),
        image=_image(data, image_base),
        image_base=image_base,
        needs=_needs(data, alike),
        inputs=_inputs(data),
        outputs=_outputs(data),
        log=log_of(data),
        log_guid=text(data, "logGUID"),
        hpo=flag(data, "isHPO"),
    )


def job_name(said: str, job_id: str) -> str:
    """PanDA's name of the job, fit to be one of ours."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", said[:_LONGEST_NAME]).lstrip("._+-")[:128]
    return name or f"panda-{job_id}"


def _asked(value: object) -> bool:
    return bool(value) and value not in ("NULL", "False")


def _parameters(raw: str) -> str:
    """The parameters; a job that asks for it has them in base64, and nothing else says so."""
    if len(raw) > LONGEST_PARAMETERS:
        raise WireError(f"jobPars: more than {LONGEST_PARAMETERS} characters")
    if len(raw) < 8 or not _BASE64.fullmatch(raw):
        return raw
    try:
        plain = base64.b64decode(raw, validate=True).decode("utf-8")
    except ValueError:
        return raw
    return plain if all(each.isprintable() or each in "\n\t" for each in plain) else raw


def _image(data: Record, base: str) -> str:
    options = data.get("containerOptions")
    inner = text(record(options, "containerOptions"), "containerImage") if isinstance(options, Mapping) else ""
    if inner and _INNER_SCRIPT not in text(record(options, "containerOptions"), "containerExec"):
        raise WireError("containerOptions: a command of the task's own around the payload is not translated")
    return image_reference(text(data, "container_name") or inner, base)


def image_reference(said: str, base: str = "") -> str:
    """PanDA's name of an image as ours: below the site's own base, where it has one and the name is relative.

    Without a base, a bare `account/name:tag` is one of a registry, and a plain word stays.
    """
    scheme, separator, _ = said.partition("://")
    if separator and scheme not in ("docker", "oras"):
        raise WireError(f"the image {shown(said)} is none that can be fetched")
    if cleaned(said) != said or not said.isprintable() or any(each in said for each in ' ,"'):
        raise WireError(f"the image {shown(said)} is none")
    if base and said and not separator and not said.startswith("/"):
        if ".." in said.split("/"):
            raise WireError(f"the image {shown(said)} leads out of the site's IMAGE_BASE")
        return f"{base.rstrip('/')}/{said}"
    bare = not separator and not said.startswith("/") and ("/" in said or ":" in said)
    return f"docker://{said}" if bare else said


def _needs(data: Record, alike: bool) -> Needs:
    """Cores, memory and disk in PanDA's units; a walltime beyond a year is none."""
    walltime = number(data, "maxWalltime", 0)
    return Needs(
        cpus=max(1, number(data, "coreCount", 1)),
        memory_bytes=number(data, "minRamCount", 0) * MIB,
        scratch_bytes=number(data, "maxDiskCount", 0) * MIB,
        walltime_seconds=walltime if walltime <= _LONGEST_TIME else 0,
        gpus=gpu_wishes(text(data, "cmtConfig"), alike),
    )


def _inputs(data: Record) -> tuple[FileIn, ...]:
    names = _names(data, "inFiles")
    columns = [parallel(data, key, len(names), "inFiles") for key in ("scopeIn", "ddmEndPointIn", "fsize", "checksum")]
    return tuple(
        FileIn(checked_name(name), scope, endpoint, _size(size), _checksum(checksum))
        for name, scope, endpoint, size, checksum in zip(names, *columns, strict=True)
    )


def _names(data: Record, key: str) -> tuple[str, ...]:
    """The files of one list: not too many, and each once."""
    if text(data, key).count(",") >= MOST_FILES:
        raise WireError(f"{key}: more than {MOST_FILES} files")
    names = listing(data, key)
    if len(set(names)) != len(names):
        raise WireError(f"{key}: it names a file twice")
    return names


def _size(said: str) -> int | None:
    """PanDA writes 0 where it does not know."""
    return number({"fsize": said}, "fsize", 0) or None


def _checksum(said: str) -> str:
    if said and not re.fullmatch(r"ad:[0-9a-fA-F]{1,8}|(md5|md):[0-9a-fA-F]{32}|[0-9a-fA-F]{32}", said):
        raise WireError(f"checksum: {shown(said)} is neither adler32 nor md5")
    return said


def _all_outputs(data: Record) -> list[FileOut]:
    """Outputs and log as they stand in `outFiles`; the scopes leave the log out, the endpoints do not."""
    names, log = _names(data, "outFiles"), text(data, "logFile")
    scopes = iter(parallel(data, "scopeOut", len([each for each in names if each != log]), "outFiles"))
    endpoints = parallel(data, "ddmEndPointOut", len(names), "outFiles")
    optional = set(listing(data, "allowNoOutput"))
    return [
        FileOut(checked_name(name), text(data, "scopeLog") if name == log else next(scopes), endpoint, name in optional)
        for name, endpoint in zip(names, endpoints, strict=True)
    ]


def _outputs(data: Record) -> tuple[FileOut, ...]:
    return tuple(each for each in _all_outputs(data) if each.name != text(data, "logFile"))


def log_of(data: Record) -> FileOut | None:
    """Where the archive of the logs goes, where the job wants one."""
    log = text(data, "logFile")
    found = next((each for each in _all_outputs(data) if each.name == log), None) if log else None
    if log and found is None:
        raise WireError("logFile: it is not among the outFiles")
    return found
