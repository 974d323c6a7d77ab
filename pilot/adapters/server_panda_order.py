"""The order of words about one attempt, over all lines of a pilot: PanDA takes the one that comes last for the truth.

Heartbeats and last words travel on lines of their own. A heartbeat never waits: for an attempt whose last word is on
its way, or has been, it says nothing. A last word waits until the heartbeats that are on their way have been answered.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

Attempt = tuple[str, int]
ANSWERED_SECONDS = 60.0  # a heartbeat that is not answered for longer has long been given up by its line
REMEMBERED = 10_000  # attempts that are over; a heartbeat that was drawn before is sent within moments


class WordOrder:
    """Who may say what now."""

    def __init__(self, patience: float = ANSWERED_SECONDS) -> None:
        self._patience = patience
        self._changed = threading.Condition()
        self._telling: Counter[Attempt] = Counter()
        self._over: dict[Attempt, None] = {}

    def begin(self, attempts: Sequence[Attempt]) -> None:
        """Given out, or given out again."""
        with self._changed:
            for each in attempts:
                self._over.pop(each, None)

    @contextmanager
    def alive(self, attempts: Sequence[Attempt]) -> Iterator[frozenset[Attempt]]:
        """Those of which it may be said, within the block, that they live."""
        with self._changed:
            told = frozenset(each for each in attempts if each not in self._over)
            self._telling.update(told)
        try:
            yield told
        finally:
            with self._changed:
                self._telling -= Counter(told)
                self._changed.notify_all()

    def end(self, attempts: Sequence[Attempt]) -> None:
        """From now on nothing but their last word is said of them; gives back when it may be."""
        wanted = set(attempts)
        with self._changed:
            self._over |= dict.fromkeys(wanted)
            for old in list(islice(self._over, max(0, len(self._over) - REMEMBERED))):
                del self._over[old]
            self._changed.wait_for(lambda: wanted.isdisjoint(self._telling), self._patience)
