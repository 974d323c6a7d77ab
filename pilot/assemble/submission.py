"""Job files on their way into a queue: read, their expressions checked, their images pinned."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pilot.adapters.journal_file import read_segment, segments
from pilot.assemble.pilot import cache_of, images_of
from pilot.assemble.queue import make_queue, matcher, open_queue
from pilot.config.jobfile import load_jobs
from pilot.config.settings import Settings
from pilot.core.templates import fill
from pilot.model.faults import Code
from pilot.model.job import JobSpec
from pilot.model.queue import Explanation, JobState, QueueSettings, Submission
from pilot.model.report import Report
from pilot.ports import Final, PortError
from pilot.queue.sweeping import Form, formed
from pilot.shell.story import fold

Warn = Callable[[str], None]


def read_jobs(file: Path, sweep: bool = False) -> list[Submission]:
    """Every job of the file, for this very node: its image is verified where it runs, which is here."""
    return [Submission(each.spec, each.job_id or "", each.code or b"") for each in load_jobs(file, refusal, sweep)]


def read_and_pin(file: Path, settings: Settings, warn: Warn, sweep: bool = False) -> list[Submission]:
    """Every job of the file, ready to be added; raises JobProblems with all that is wrong."""
    pins = _Pins(settings, warn)
    return [replace(each, spec=pins.pinned(each.spec)) for each in read_jobs(file, sweep)]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a sweep would add: how many jobs, the first and the last of them."""

    jobs: int
    first: JobSpec
    last: JobSpec


def preview(template: Submission, rows: Iterable[Mapping[str, str]]) -> Preview:
    """What would be added; refuses what the queue would refuse."""
    form, jobs = formed(template, rows)
    first = next(jobs)
    number, last = next(iter(deque(enumerate(jobs, 2), maxlen=1)), (1, first))
    return Preview(number, _filled(form, first), _filled(form, last))


def _filled(form: Form, job: tuple[str, list[str]]) -> JobSpec:
    name, values = job
    return replace(fill(form.spec, dict(zip(form.parameters, values, strict=True))), name=name)


def refusal(requirements: str) -> str:
    """Why that is no ClassAd expression; empty where it is one."""
    try:
        matcher().check(requirements)
    except PortError as refused:
        return (refused.fault.detail or refused.fault.message).removeprefix("requirements: ")
    return ""


class _Pins:
    """Digests of images that are at hand here: what runs later is what was meant when the job was handed in."""

    def __init__(self, settings: Settings, warn: Warn) -> None:
        self._images = images_of(settings, cache_of(settings))
        self._warn = warn
        self._known: dict[str, str] = {}

    def pinned(self, spec: JobSpec) -> JobSpec:
        """The job with its image's digest, where the image is here and no digest was given."""
        if not spec.image or spec.image_sha256 or "://" in spec.image:
            return spec
        if spec.image not in self._known:
            self._known[spec.image] = self._digest(spec.image)
        return replace(spec, image_sha256=self._known[spec.image])

    def _digest(self, reference: str) -> str:
        listed = next((each for each in self._images.listed() if reference in (each.name, each.path)), None)
        if listed is not None and Path(listed.path).is_dir():
            return listed.sha256  # its files are verified where it runs
        if listed is None and Path(reference).is_dir():
            return ""  # a directory that no store lists has no digest yet
        try:
            return self._images.resolve(reference, "").sha256
        except PortError as problem:
            if problem.fault.code is not Code.IMAGE_MISSING:
                raise
            self._warn(f"image {reference}: not on this machine, so the job is not pinned to a digest")
            return ""


def begun(place: Path, user: str) -> list[str]:
    """The names of the jobs in a queue file that an earlier pilot has begun and not finished; none without a file.

    A job that the queue holds for done may still be open in that pilot's journal: not yet told, not yet swept.
    """
    if not place.exists():
        return []
    held = fold(line for last in segments(place.parent)[-1:] for line in read_segment(last))
    return sorted({each.job.spec.name for each in held.values() if each.job.grant} | _granted(place, user))


def _granted(place: Path, user: str) -> set[str]:
    queue = open_queue(f"sqlite:{place}", "default", user)
    try:
        return {row.name for row in queue.find((JobState.GRANTED,))}
    except Final:
        return set()  # its maker was killed before the file held a queue
    finally:
        queue.close()


def add_alone(job: Submission, place: Path, destination: str, user: str) -> str:
    """A new queue file that holds just this job, to be tried once; gives its URL."""
    for each in ("", "-wal", "-shm"):
        Path(f"{place}{each}").unlink(missing_ok=True)
    url = f"sqlite:{place}"
    make_queue(url, QueueSettings("default", user, destination=destination))
    queue = open_queue(url, "default", user)
    queue.add([replace(job, spec=replace(job.spec, attempts=1, max_interruptions=0))])
    queue.close()
    return url


def last_words(url: str, user: str) -> list[Report]:
    """What was said last of each job of a queue."""
    queue = open_queue(url, "default", user)
    found = [report for row in queue.find() for report in queue.results(row.job_id)[-1:]]
    queue.close()
    return found


def left_waiting(url: str, user: str) -> list[tuple[str, Explanation]]:
    """The jobs of a queue that nobody claimed, and why: name and explanation."""
    queue = open_queue(url, "default", user)
    found = [(row.name, queue.explain(row.job_id)) for row in queue.find((JobState.WAITING,))]
    queue.close()
    return found
