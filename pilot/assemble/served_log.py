"""A job's log, read through the service of its queue: as it was stored, or while it runs by looks into its directory.

A running job is looked at through its heartbeat: each look shows the log's last lines, of which only what is new is
given on. The service has the pilot look again and again while its answers are fetched.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot.model.faults import Code
from pilot.ports import PortError

if TYPE_CHECKING:
    from pilot.adapters.server_queue import OwnQueue

LOOK_LINES = 100
LOOK_SECONDS = 40.0  # an answer comes with the next heartbeat but one; leases at their usual length beat each 20 s
KEPT_CHARACTERS = 64_000  # of what was shown, to find where a look begins to be new


@dataclass(slots=True)
class ServedLog:
    """One log of one job of a served queue."""

    queue: "OwnQueue"
    job: str
    which: str
    pause: float = 1.0  # seconds between two questions to the service
    _offset: int = 0
    _live: bool = True
    _shown: str = ""
    _asked: float = 0.0

    def more(self) -> bytes:
        """What came since the last call."""
        part = self.queue.log(self.job, self.which, self._offset)
        self._live = part.live
        found = self._look(part.text) if part.live else part.text
        while not part.live and part.text:  # it lies there whole, and comes in pieces
            self._offset = part.offset
            part = self.queue.log(self.job, self.which, self._offset)
            found += part.text
        fresh = fresh_part(self._shown, found)
        self._shown = (self._shown + fresh)[-KEPT_CHARACTERS:]
        return fresh.encode()

    def live(self) -> bool:
        """Whether the job may still write."""
        return self._live

    def pending(self) -> bool:
        """Whether a first look is under way that may still be answered."""
        return self._live and not self._shown and bool(self._asked) and time.monotonic() - self._asked < LOOK_SECONDS

    def _look(self, stored: str) -> str:
        """The answer to the last look, if it has come, and another one asked for; else what an attempt has stored."""
        question = f"tail {self.which} {LOOK_LINES}"
        said = self.queue.answer(self.job)
        new = said.question != question
        if new or (not said.answer and time.monotonic() - self._asked > LOOK_SECONDS):
            try:
                self.queue.put_question(self.job, question)
            except PortError as problem:
                if problem.fault.code is not Code.SERVER_REFUSED:
                    raise
                return stored  # nothing runs now that could be looked at
            self._asked = time.monotonic()
        return "" if new else said.answer


def fresh_part(shown: str, found: str) -> str:
    """What of `found` goes beyond what was shown: parts of one text, `found` from the beginning of a line on."""
    tail = shown[-len(found) :] if found else ""
    starts = [0, *(at + 1 for at, each in enumerate(tail) if each == "\n")]
    for start in starts if len(tail) == len(shown) else starts[1:]:
        if start < len(tail) and found.startswith(tail[start:]):
            return found[len(tail) - start :]
    after = found.find(shown) if shown else -1
    return found[after + len(shown) :] if after >= 0 else found
