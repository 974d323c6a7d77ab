"""The crew: threads that carry out orders. Every order is answered by exactly one fact, whatever happens.

Lanes. Orders of one job run one after another, so a store waits for the fetch that was abandoned before it. Orders that
end or warn a running payload (stop, checkpoint) never wait for those: a thread is made for them. What goes to the
queue has a lane of its own, which takes all that is waiting in one call: one commit, one request, for many jobs. The
heartbeat has another, so no transfer and no report can delay it; so have looks at an empty queue, which may last, and
looks into the sandboxes of running jobs, where a file system may hang.

This is the one place with a broad `except`: the unknown becomes `pilot.bug` with its traceback.
"""

import errno
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TypeVar

from pilot.core.reporting import Dossier
from pilot.failpoints import failpoint
from pilot.model.facts import Broke, Fact
from pilot.model.faults import Code, Fault, fault
from pilot.model.job import Job
from pilot.model.orders import Kind, Order
from pilot.model.report import Report
from pilot.ports import Abandoned, PortError

HANDS = 4  # transfers and starts at once; more come when these hang
LOOK_JOIN_SECONDS = 0.2  # enough for a look that was told to end; a long poll ends with the process
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """An order with all that is needed to carry it out; `abandoned` is asked between steps."""

    order: Order
    job: Job
    dossier: Dossier
    report: Report | None = None
    permitted: Callable[[], bool] = lambda: True
    given_up: threading.Event = field(default_factory=threading.Event)

    def abandoned(self) -> bool:
        """Whether the loop has given this order up, or its permission has run out."""
        return self.given_up.is_set() or not self.permitted()


Post = Callable[[Fact], None]
Hand = Callable[[Task], Fact | None]  # None: the answer comes later, from the payload's end
ServerHand = Callable[[list[Task]], list[Fact]]
Broken = Callable[[Fault], None]
ORDER_POINTS = tuple(f"order.{kind}.{side}" for kind in Kind for side in ("before", "after"))  # failpoints
_SERVER = frozenset({Kind.CLAIM, Kind.REPORT, Kind.RETURN})
_AT_ONCE = frozenset({Kind.STOP, Kind.CHECKPOINT})


class Crew:
    """Threads that turn orders into facts."""

    def __init__(self, post: Post, hand: Hand, server: ServerHand) -> None:
        self._post = post
        self._hand = hand
        self._server = server
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, int], Task] = {}
        self._waiting: dict[tuple[str, bool], deque[Task]] = {}
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._beats: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._looks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._sights: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._to_server: SimpleQueue[Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._hire()

    def submit(self, task: Task) -> None:
        """Takes one order; its answer is posted."""
        order = task.order
        self._abandon(order)
        with self._lock:
            self._tasks[order.key, order.ticket] = task
        if order.kind in _SERVER:
            self._to_server.put(task)
        else:
            self._queue_up(task)

    def beat(self, action: Callable[[], None], broke: Broken) -> None:
        """Runs one heartbeat in its own lane."""
        self._beats.put(lambda: _aside(action, broke))

    def look(self, action: Callable[[], None], broke: Broken) -> None:
        """Runs one look at an empty queue, which may last, in its own lane."""
        self._looks.put(lambda: _aside(action, broke))

    def see(self, action: Callable[[], None], broke: Broken) -> None:
        """Runs one look into the sandboxes of running jobs in its own lane."""
        self._sights.put(lambda: _aside(action, broke))

    def conclude(self, key: str, ticket: int, gone: bool, action: Callable[[], Fact]) -> None:
        """Posts the answer of an order whose end came later, made by `action`, guarded like any other.

        `gone` says whether the payload's processes are: that stays true whatever befalls the reading of its ending.
        """
        with self._lock:
            task = self._tasks.get((key, ticket))
        if task is not None:
            self._work.put(lambda: self._conclude(task, gone, action))

    def forget(self, key: str, ticket: int) -> None:
        """The loop answered that order itself (its deadline passed): a replacement takes the hung thread's place."""
        with self._lock:
            task = self._tasks.pop((key, ticket), None)
        if task is not None:
            task.given_up.set()
            self._next_after(task)
            self._hire_one(self._work)

    def close(self, timeout: float) -> None:
        """Ends the threads; those that hang, or wait for a queue to change, are left to the end of the process."""
        for _ in range(len(self._threads)):
            self._work.put(None)
        for lane in (self._beats, self._looks, self._sights):
            lane.put(None)
        self._to_server.put(None)
        for thread in self._threads:
            thread.join(LOOK_JOIN_SECONDS if thread is self._looker else timeout)

    # --- lanes ---------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        for _ in range(HANDS):
            self._hire_one(self._work)
        self._hire_one(self._beats)
        self._hire_one(self._sights)
        self._looker = self._hire_one(self._looks)
        self._begin(threading.Thread(target=self._serve, name="server", daemon=True))

    def _hire_one(self, lane: SimpleQueue[Callable[[], None] | None]) -> threading.Thread:
        return self._begin(threading.Thread(target=_drain, args=(lane,), name="hand", daemon=True))

    def _begin(self, thread: threading.Thread) -> threading.Thread:
        self._threads.append(thread)
        thread.start()
        return thread

    def _queue_up(self, task: Task) -> None:
        with self._lock:
            line = self._waiting.setdefault(_line_of(task), deque())
            line.append(task)
            first = len(line) == 1
        if first:
            self._set_to_work(task)

    def _set_to_work(self, task: Task) -> None:
        """Urgent orders are few and must not wait for a free hand: a thread is made for them."""
        if task.order.kind in _AT_ONCE:
            self.spawn(lambda: self._in_turn(task))
        else:
            self._work.put(lambda: self._in_turn(task))

    def spawn(self, action: Callable[[], None]) -> None:
        """Runs something small in a thread of its own."""
        threading.Thread(target=action, name="urgent", daemon=True).start()

    def _in_turn(self, task: Task) -> None:
        self._carry_out(task)
        self._next_after(task)

    def _next_after(self, done: Task) -> None:
        with self._lock:
            line = self._waiting.get(_line_of(done))
            if not line or done not in line:
                return
            was_first = line[0] is done
            line.remove(done)
            following = line[0] if line and was_first else None
            if not line:
                del self._waiting[_line_of(done)]
        if following is not None:
            self._set_to_work(following)

    def _serve(self) -> None:
        while (task := self._to_server.get()) is not None:
            batch = [task, *_rest(self._to_server)]
            if None in batch:
                self._to_server.put(None)
            self._serve_batch([each for each in batch if each is not None])

    def _serve_batch(self, batch: list[Task]) -> None:
        for kind in (Kind.RETURN, Kind.REPORT, Kind.CLAIM):
            tasks = [each for each in batch if each.order.kind is kind and not self._dropped(each)]
            if tasks:
                failpoint(f"order.{kind}.before")
                for task, fact in zip(tasks, self._served(tasks), strict=True):
                    self._answer(task, fact)
                failpoint(f"order.{kind}.after")

    def _dropped(self, task: Task) -> bool:
        if not task.abandoned():
            return False
        with self._lock:
            self._tasks.pop((task.order.key, task.order.ticket), None)
        return True

    def _served(self, tasks: list[Task]) -> list[Fact]:
        outcome: list[Fact] = []
        broken = self._guarded(tasks[0], lambda _: outcome.extend(self._server(tasks)))
        return outcome if broken is None else [_broke(each, broken) for each in tasks]

    # --- one order -----------------------------------------------------------------------------------------

    def _carry_out(self, task: Task) -> None:
        failpoint(f"order.{task.order.kind}.before")
        fact = self._guarded(task, self._hand)
        failpoint(f"order.{task.order.kind}.after")
        if fact is not None:
            self._answer(task, fact)

    def _conclude(self, task: Task, gone: bool, action: Callable[[], Fact]) -> None:
        fact = self._guarded(task, lambda _: action())
        if isinstance(fact, Broke):
            fact = replace(fact, gone=gone)
        if fact is not None:
            self._answer(task, fact)

    def _guarded(self, task: Task, action: Hand) -> Fact | None:
        order = task.order
        found = _tried(lambda: action(task))
        return Broke(order.key, order.ticket, order.kind, found) if isinstance(found, Fault) else found

    def _answer(self, task: Task, fact: Fact) -> None:
        with self._lock:
            ours = self._tasks.pop((task.order.key, task.order.ticket), None)
        if ours is not None:
            self._post(fact)

    def _abandon(self, order: Order) -> None:
        if order.abandons is None:
            return
        with self._lock:
            running = [each for (key, _), each in self._tasks.items() if key == order.key]
        for task in running:
            if task.order.kind is order.abandons:
                task.given_up.set()


def _tried(action: Callable[[], T]) -> T | Fault:
    try:
        return action()
    except Abandoned:
        return fault(Code.PILOT_DEADLINE, "given up")
    except PortError as problem:
        return problem.fault
    except Exception as problem:  # noqa: BLE001  the one broad except: the unknown becomes pilot.bug
        return _unknown(problem)


def _aside(action: Callable[[], None], broke: Broken) -> None:
    """What is no order is answered too, whatever happens: a lane that died in silence would lose every lease."""
    found = _tried(action)
    if isinstance(found, Fault):
        broke(found)


def _unknown(problem: Exception) -> Fault:
    """What no adapter translated: a full disk, which may show at any write, or a mistake of ours."""
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return fault(Code.SCRATCH_FULL, f"{problem.filename or 'the sandbox'}: {problem.strerror}")
    return fault(Code.PILOT_BUG, "".join(traceback.format_exception(problem, limit=-6)))


def _line_of(task: Task) -> tuple[str, bool]:
    """Orders of one job run one after another; those that end or warn a payload among themselves."""
    return task.order.key, task.order.kind in _AT_ONCE


def _broke(task: Task, like: Fact) -> Fact:
    assert isinstance(like, Broke)
    return Broke(task.order.key, task.order.ticket, task.order.kind, like.fault)


def _rest(lane: SimpleQueue[Task | None]) -> list[Task | None]:
    found: list[Task | None] = []
    try:
        while True:
            found.append(lane.get_nowait())
    except Empty:
        return found


def _drain(lane: SimpleQueue[Callable[[], None] | None]) -> None:
    while (action := lane.get()) is not None:
        action()
