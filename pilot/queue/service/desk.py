"""The one thread that has the queue file in its hands; what waits for it together is done together.

A commit costs a sync of the disk, whatever is in it. So calls of one kind that arrive while the thread is at work are
collected, and answered out of one transaction.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pilot.ports import PortError
from pilot.queue.service.limits import Busy, Limits
from pilot.queue.service.numbers import Numbers

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")

REFUSED = (PortError, ValueError, ArithmeticError)  # the latter: numbers that the file cannot hold
TOGETHER = 1000  # items in one transaction: enough to share a sync, few enough that nobody waits long behind it


@dataclass(slots=True)
class _Waiting(Generic[A, R]):
    items: Sequence[A]
    answer: "asyncio.Future[Sequence[R]]"


@dataclass(slots=True)
class _Pile(Generic[A, R]):
    """Calls of one kind that wait for the next transaction of theirs."""

    work: Callable[[Sequence[A]], Sequence[R]]
    waiting: "deque[_Waiting[A, R]]" = field(default_factory=deque)
    asked: bool = False  # the thread has been told that something waits
    taken: "list[_Waiting[A, R]]" = field(default_factory=list)  # what it has in hand


class Desk:
    """Work for the database thread, from the event loop; `most` calls may wait for it, and others are sent away."""

    def __init__(self, name: str, numbers: Numbers, most: int = Limits().pending_calls) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._numbers = numbers
        self._most = most
        self._pending = 0
        self._piles: dict[Hashable, _Pile[object, object]] = {}

    async def do(self, kind: str, work: Callable[[], T], own: bool = False) -> T:
        """One piece of work, alone; the service's `own` is never sent away."""
        with self._waiting(own):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, kind, 1, work)

    async def join(
        self, kind: str, of: str, items: Sequence[A], work: Callable[[Sequence[A]], Sequence[R]]
    ) -> Sequence[R]:
        """The items' share in one call of `work` for all that wait under the same kind and name."""
        pile = self._piles.setdefault((kind, of), _Pile(work))  # type: ignore[arg-type]
        waiting: _Waiting[A, R] = _Waiting(items, asyncio.get_running_loop().create_future())
        with self._waiting():
            pile.waiting.append(waiting)  # type: ignore[arg-type]
            self._ask(kind, pile)
            return await waiting.answer

    def close(self) -> None:
        """Ends the thread when it has done what it was given."""
        self._thread.shutdown()

    @contextmanager
    def _waiting(self, own: bool = False) -> Iterator[None]:
        if self._pending >= self._most and not own:
            raise Busy(f"{self._pending} calls wait for the queue's file already")
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    def _ask(self, kind: str, pile: "_Pile[object, object]") -> None:
        if pile.asked or not pile.waiting:
            return
        pile.asked = True
        round_ = asyncio.get_running_loop().run_in_executor(self._thread, self._round, kind, pile)
        round_.add_done_callback(lambda done: self._deliver(kind, pile, done))

    def _round(self, kind: str, pile: "_Pile[object, object]") -> "list[tuple[_Waiting[object, object], object]]":
        """In the thread: as many as wait by now, up to a limit."""
        taken = pile.taken = _take(pile.waiting)
        items = [each for one in taken for each in one.items]
        try:
            answers = iter(self._timed(kind, len(items), lambda: pile.work(items)))
            return [(one, [next(answers) for _ in one.items]) for one in taken]
        except REFUSED as problem:
            return [(one, _alone(pile, one) if len(taken) > 1 else problem) for one in taken]

    def _timed(self, kind: str, count: int, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        try:
            return work()
        finally:
            self._numbers.worked(kind, count, time.perf_counter() - begun)

    def _deliver(
        self,
        kind: str,
        pile: "_Pile[object, object]",
        done: "asyncio.Future[list[tuple[_Waiting[object, object], object]]]",
    ) -> None:
        pile.asked = False
        broke = done.exception()  # what nobody expected: all that were in hand are told, and nobody hangs
        for waiting, answer in [(each, broke) for each in pile.taken] if broke else done.result():
            _answer(waiting, answer)
        self._ask(kind, pile)


def _alone(pile: "_Pile[object, object]", one: "_Waiting[object, object]") -> object:
    """Its own answer where the round failed: one caller's nonsense is not the others' trouble."""
    try:
        return pile.work(one.items)
    except REFUSED as problem:
        return problem


def _take(waiting: "deque[_Waiting[object, object]]") -> "list[_Waiting[object, object]]":
    """From the front as many as one transaction should hold, and one in any case."""
    taken: list[_Waiting[object, object]] = []
    room = TOGETHER
    while waiting and (not taken or len(waiting[0].items) <= room):
        taken.append(waiting.popleft())
        room -= len(taken[-1].items)
    return taken


def _answer(waiting: "_Waiting[object, object]", answer: object) -> None:
    if waiting.answer.done():
        return  # whoever asked has gone
    if isinstance(answer, BaseException):
        waiting.answer.set_exception(answer)
    else:
        waiting.answer.set_result(answer)  # type: ignore[arg-type]
