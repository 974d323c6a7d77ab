"""What the crew works with: every port, and the places and times that the configuration gives."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from pilot.model.faults import Code, fault
from pilot.model.files import Output
from pilot.model.job import Grant, Job, JobSpec
from pilot.model.rules import broken
from pilot.ports import (
    Clock,
    Collect,
    Final,
    Images,
    Launcher,
    Runtime,
    Sandbox,
    Server,
    Storage,
    Unpack,
)


@dataclass(frozen=True, slots=True)
class Doors:
    """Every door to the outside world that the crew uses; storage by URL scheme."""

    server: Server
    runtime: Runtime
    launcher: Launcher
    images: Images
    storage: Mapping[str, Storage]
    collect: Collect
    unpack: Unpack
    clock: Clock


@dataclass(frozen=True, slots=True)
class House:
    """Places and times: scratch and kept sandboxes, the site's read-only binds, seconds of grace.

    `flat` puts outputs right under their destination, as `--job --output DIR` does; `bare` runs without image.
    """

    scratch: Path
    kept: Path
    binds: tuple[str, ...] = ()
    grace: float = 10.0
    flat: bool = False
    bare: bool = False
    keep_failed: int = 3
    log_bytes: int = 10_000_000


def granted(job: Job) -> Grant:
    """The job's grant; raises LookupError where there is none."""
    if job.grant is None:
        raise LookupError(f"{job.key}: not granted")
    return job.grant


def sound(grant: Grant) -> Grant:
    """The grant; one whose job breaks the rules that we rely on, whoever gave it, is to be declined."""
    problem = broken(grant.spec)
    if not problem:
        return grant
    spec = JobSpec(grant.spec.name[:200] or grant.job_id, ("unknown",))
    return replace(grant, spec=spec, resume=None, refusal=grant.refusal or fault(Code.JOB_INVALID, problem))


def sandbox_of(house: House, job: Job) -> Sandbox:
    """The attempt's own directories."""
    grant = granted(job)
    return _sandbox(house.scratch, grant.job_id, grant.attempt)


@lru_cache(maxsize=256)  # asked for a dozen times per attempt
def _sandbox(scratch: Path, job_id: str, attempt: int) -> Sandbox:
    return Sandbox(scratch / f"{quote(job_id, safe='')}.{attempt}")


def launch_of(job: Job, step: str) -> str:
    """The launch id of one step of an attempt: its idempotency key."""
    grant = granted(job)
    return f"{grant.job_id}.{grant.attempt}.{step}"


def storage_for(doors: Doors, url: str) -> Storage:
    """The storage adapter of a URL's scheme."""
    scheme = urlsplit(url).scheme
    found = doors.storage.get(scheme)
    if found is None:
        known = ", ".join(sorted(doors.storage))
        raise Final(Code.JOB_INVALID, f"{url}: no storage for scheme {scheme!r}; this pilot knows {known}")
    return found


def has_place(job: Job, wanted: Output) -> bool:
    """Whether anybody said where it goes."""
    return bool(wanted.url or wanted.to or granted(job).destination)


def destination(house: House, job: Job, wanted: Output, name: str) -> str:
    """Where a file of the job goes: `<to>/<job_id>/<attempt>/NAME`, or right under the destination if flat.

    An output with an exact place goes there and nowhere else: whoever gave it has seen to attempts himself.
    """
    if wanted.url:
        return wanted.url
    grant = granted(job)
    base = grant.destination if house.flat else (wanted.to or grant.destination)
    if not base:
        raise Final(Code.JOB_INVALID, f"{name}: no destination; give the output a `to`, or the queue an --output")
    parts = [] if house.flat else [grant.job_id, str(grant.attempt)]
    return "/".join([base.rstrip("/"), *(quote(each, safe="/") for each in (*parts, name))])
