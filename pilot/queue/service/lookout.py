"""How the queue stands, as one number that rises whenever a claim may find what it did not find before.

Jobs that come in, are released or go back to waiting raise it, and so does another process that wrote the file, or a
lease that ran out. Grants, heartbeats and offers do not: idle pilots must not wake one another.
"""

import asyncio
import random
import secrets
from collections.abc import Callable

from pilot.queue.fate import next_due
from pilot.queue.service.desk import Desk
from pilot.queue.store import Store

TICK_SECONDS = 0.25  # how soon another process's writing is seen, while somebody waits
WAKES_PER_SECOND = 200  # so many are woken in a second: each of them claims at once
LONGEST_SPREAD_SECONDS = 5.0


class Lookout:
    """One for the whole file; `look` and `stir` are for the database thread, the rest for the event loop."""

    def __init__(self, store: Store, desk: Desk, wall: Callable[[], float]) -> None:
        self._store = store
        self._desk = desk
        self._wall = wall
        self._life = secrets.token_hex(4)  # numbers of an earlier life of the service mean nothing
        self._count = 0
        self._told = 0
        self._seen = store.version()
        self._due_seen: float | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def version(self) -> str:
        """How the queue stands."""
        return f"{self._life}.{self._count}"

    def look(self) -> str:
        """Takes notice of what others wrote and of leases that ran out; gives the version."""
        version = self._store.version()
        with self._store.reading() as db:
            due = next_due(db)
        overdue = due is not None and due <= self._wall() and due != self._due_seen
        if version != self._seen or overdue:
            self._seen, self._due_seen = version, due if overdue else self._due_seen
            self._count += 1
        return self.version

    def stir(self) -> None:
        """We ourselves have put something there that a claim may find."""
        self._count += 1

    async def changed(self, since: str, patience: float) -> bool:
        """Whether the queue stands otherwise than at `since`; waits for it so long, if it may be waited at all."""
        if await self._desk.do("look", self.look) != since:
            return True
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while self.version == since and not self._ending and (left := until - loop.time()) > 0:
            await self._wait(left)
        return self.version != since

    def tell_if_stirred(self) -> None:
        """Wakes who waits, one after another, where the number has risen since the last time."""
        if self._told == self._count or not self._waiting:
            return
        self._told = self._count
        loop = asyncio.get_running_loop()
        spread = min(len(self._waiting) / WAKES_PER_SECOND, LONGEST_SPREAD_SECONDS)
        for each in self._waiting:
            loop.call_later(random.random() * spread, _wake, each)  # noqa: S311  nobody gains by guessing it
        self._waiting = set()

    def end(self) -> None:
        """Everybody is answered now, and nobody waits any more."""
        self._ending = True
        for each in self._waiting:
            _wake(each)
        if self._watch is not None:
            self._watch.cancel()

    async def _wait(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._keep_watch())
        try:
            await asyncio.wait_for(waiting, seconds)
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(waiting)

    async def _keep_watch(self) -> None:
        """One look for all who wait, as long as somebody waits."""
        while self._waiting:
            await asyncio.sleep(TICK_SECONDS)
            await self._desk.do("look", self.look, own=True)
            self.tell_if_stirred()


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
