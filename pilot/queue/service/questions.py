"""Looks into a running job's directory: asked here, taken along by a heartbeat, answered with the next one.

Kept in memory: a question that a restart forgets is asked again by whoever waits for the answer.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pilot.model.faults import Code
from pilot.ports import Beat, BeatReply, Final

KEPT_SECONDS = 3600.0
KEPT = 10_000
ANSWER_BYTES = 64_000
FORM = re.compile(r"(tail [^\x00-\x1f]{1,512}|ls( [^\x00-\x1f]{1,512})?|ps)")


@dataclass(frozen=True, slots=True)
class Question:
    """One look that somebody wants, and what came back; `told` once a heartbeat has taken it along."""

    question: str
    at: float
    attempt: int = 0
    told: bool = False
    answer: str = ""


class Questions:
    """The open and answered questions by job; one a job, the newest."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._by_job: dict[str, Question] = {}

    def ask(self, job_id: str, question: str) -> None:
        """Puts the question to the job; what was asked before is forgotten."""
        if not FORM.fullmatch(question):
            raise Final(Code.JOB_INVALID, f"question {question[:40]!r}: use tail FILE, ls [FOLDER] or ps")
        self._forget()
        self._by_job[job_id] = Question(question, self._wall())

    def answer(self, job_id: str) -> Question:
        """What was asked of that job last, and what came back."""
        return self._by_job.get(job_id, Question("", 0.0))

    def along(self, beats: Sequence[Beat], replies: Sequence[BeatReply]) -> list[BeatReply]:
        """The replies with what is asked of those jobs; what the beats bring is kept."""
        return [self._one(beat, reply) for beat, reply in zip(beats, replies, strict=True)]

    def _one(self, beat: Beat, reply: BeatReply) -> BeatReply:
        asked = self._by_job.get(beat.job_id)
        if asked is None or not reply.ours:
            return reply
        if asked.told and asked.attempt == beat.attempt and beat.answer:
            self._by_job[beat.job_id] = replace(asked, answer=beat.answer[:ANSWER_BYTES])
            return reply
        if asked.answer:
            return reply
        self._by_job[beat.job_id] = replace(asked, told=True, attempt=beat.attempt)
        return replace(reply, question=asked.question)

    def _forget(self) -> None:
        """What nobody fetched in time, and the oldest beyond the number kept."""
        old = self._wall() - KEPT_SECONDS
        kept = {job: each for job, each in self._by_job.items() if each.at >= old}
        self._by_job = dict(list(kept.items())[-KEPT:])
