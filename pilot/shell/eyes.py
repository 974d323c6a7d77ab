"""What the queue is told of jobs that run: how they get on, and what it asked to see of them."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from pilot.core.reporting import clean
from pilot.model.facts import Usage
from pilot.model.job import Job, Phase
from pilot.ports import Insight, Vitals
from pilot.shell.doors import House, sandbox_of

ANSWER_CHARACTERS = 16_000  # two screens of long lines, and no burden for a heartbeat
_RUNNING = frozenset({Phase.RUNNING, Phase.STOPPING, Phase.VALIDATING})


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen, by claim; `answers` to what the queue asked."""

    vitals: Mapping[str, Vitals] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)


class Eyes:
    """Looks into sandboxes; always in the lane for that, since a file system may hang."""

    def __init__(self, insight: Insight, house: House, peak: Callable[[str], int]) -> None:
        self._insight = insight
        self._house = house
        self._peak = peak

    def vitals(self, jobs: Iterable[Job]) -> Seen:
        """How the payloads that run get on."""
        running = [each for each in jobs if each.phase in _RUNNING]
        found = self._insight.vitals([sandbox_of(self._house, each) for each in running])
        return Seen(vitals={job.key: self._of(job, seen) for job, seen in zip(running, found, strict=True)})

    def _of(self, job: Job, seen: Vitals) -> Vitals:
        usage = replace(seen.usage, scratch_peak_bytes=self._peak(job.key))
        return Vitals(_without_secrets(seen.progress), usage)

    def answer(self, job: Job, question: str) -> Seen:
        """One answer, free of control characters and of anything that looks like a credential; never empty.

        An empty file is an answer too, and whoever asked is to see that it has come.
        """
        said = clean(self._insight.answer(sandbox_of(self._house, job), question))
        return Seen(answers={job.key: said[-ANSWER_CHARACTERS:] or "\n"})


def _without_secrets(progress: str) -> str:
    """The record with every text that looks like a credential, by its own look or by its name, removed."""
    return json.dumps(_scrubbed("", json.loads(progress)), separators=(",", ":")) if progress else ""


def _scrubbed(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: _scrubbed(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_scrubbed(name, each) for each in value]
    plain = f'{name}="{value}"'
    return "[removed]" if isinstance(value, str) and clean(plain) != plain else value


def later(before: Vitals | None, seen: Vitals) -> Vitals:
    """The newer of two looks; what was used never becomes less, though processes that have ended are not seen."""
    if before is None:
        return seen
    used, now = before.usage, seen.usage
    usage = Usage(
        cpu_seconds=max(used.cpu_seconds, now.cpu_seconds),
        memory_peak_bytes=max(used.memory_peak_bytes, now.memory_peak_bytes),
        io_wait_seconds=max(used.io_wait_seconds, now.io_wait_seconds),
        scratch_peak_bytes=max(used.scratch_peak_bytes, now.scratch_peak_bytes),
        gpus=now.gpus or used.gpus,
    )
    return Vitals(seen.progress or before.progress, usage)
