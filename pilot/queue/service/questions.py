"""Looks into a running job's directory: asked here, taken along by a heartbeat, answered with the next one.

As long as somebody fetches the answers to `tail`, it is asked again with each one that comes. It is asked in other
words then, one line more or less: a pilot hurries for a question that it has not had before.

Kept in memory: a question that a restart forgets is asked again by whoever waits for the answer.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pilot.model.faults import Code
from pilot.ports import Beat, BeatReply, Final

KEPT_SECONDS = 3600.0
FOLLOWED_SECONDS = 10.0  # after the last fetch nobody follows any more
KEPT = 10_000
ANSWER_BYTES = 64_000
TAIL = re.compile(r"(tail \S+) (\d{1,6})")
FORM = re.compile(r"(tail [^\x00-\x1f]{1,512}|ls( [^\x00-\x1f]{1,512})?|ps)")


@dataclass(frozen=True, slots=True)
class Question:
    """One look that somebody wants, and what came back last; `told` once a heartbeat has taken it along.

    `fetched` is when somebody last wanted the answer, `turn` how often it was asked again.
    """

    question: str
    at: float
    attempt: int = 0
    told: bool = False
    answer: str = ""
    fetched: float = 0.0
    turn: int = 0

    def words(self) -> str:
        """The question as the pilot gets it."""
        found = TAIL.fullmatch(self.question)
        return f"{found[1]} {int(found[2]) + 1}" if found and self.turn % 2 else self.question


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
        now = self._wall()
        self._by_job[job_id] = Question(question, now, fetched=now)

    def answer(self, job_id: str) -> Question:
        """What was asked of that job last, and what came back."""
        asked = self._by_job.get(job_id)
        if asked is None:
            return Question("", 0.0)
        self._by_job[job_id] = replace(asked, fetched=self._wall())
        return asked

    def along(self, beats: Sequence[Beat], replies: Sequence[BeatReply]) -> list[BeatReply]:
        """The replies with what is asked of those jobs; what the beats bring is kept."""
        return [self._one(beat, reply) for beat, reply in zip(beats, replies, strict=True)]

    def _one(self, beat: Beat, reply: BeatReply) -> BeatReply:
        asked = self._by_job.get(beat.job_id)
        if asked is None or not reply.ours:
            return reply
        if asked.told and asked.attempt == beat.attempt and beat.answer:
            asked = replace(asked, answer=beat.answer[:ANSWER_BYTES], turn=asked.turn + 1)
        followed = TAIL.fullmatch(asked.question) and self._wall() - asked.fetched < FOLLOWED_SECONDS
        again = not asked.answer or followed
        self._by_job[beat.job_id] = replace(asked, told=True, attempt=beat.attempt) if again else asked
        return replace(reply, question=asked.words()) if again else reply

    def _forget(self) -> None:
        """What nobody fetched in time, and the oldest beyond the number kept."""
        old = self._wall() - KEPT_SECONDS
        kept = {job: each for job, each in self._by_job.items() if each.at >= old}
        self._by_job = dict(list(kept.items())[-KEPT:])
