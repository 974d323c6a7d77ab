"""The service's parts, put together: the file, the threads that use it, who may come in, what is remembered."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot.failpoints import effect
from pilot.ports import Matcher, Server
from pilot.queue import fate
from pilot.queue.local import LocalServer
from pilot.queue.service.call import Caller
from pilot.queue.service.desk import Desk
from pilot.queue.service.identity import Doorkeeper
from pilot.queue.service.limits import Limits
from pilot.queue.service.lookout import Lookout
from pilot.queue.service.numbers import NoNumbers, Numbers
from pilot.queue.service.panda_nodes import Nodes
from pilot.queue.service.questions import Questions
from pilot.queue.service.storage_tokens import StorageKey
from pilot.queue.service.uploads import Uploads
from pilot.queue.settings import read_settings
from pilot.queue.store import Store, open_store
from pilot.queue.users import LocalQueue

OPEN_USER = "loopback"  # whose jobs they are where the service runs without tokens, on loopback only
WAITED_FOR = """
SELECT 1 FROM edge JOIN job ON job.job = edge.after WHERE job_id IN (SELECT value FROM json_each(?)) LIMIT 1
"""
Wall = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the service is made of: the file, the doorkeeper (None = everybody may do everything), the clock."""

    path: Path
    matcher: Matcher
    doorkeeper: Doorkeeper | None = None
    wall: Wall = time.time
    storage: StorageKey | None = None
    numbers: Numbers = NoNumbers()  # noqa: RUF009  it holds nothing
    watched: Callable[[LocalServer], Server] = lambda server: server  # how answers to pilots are counted
    limits: Limits = Limits()  # noqa: RUF009  frozen


class Service:
    """Handlers are given this; what touches the file goes through `desk`, what only reads it through `reader`."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.wall = setting.wall
        self.numbers = setting.numbers
        self.desk = Desk("queue", setting.numbers, setting.limits.pending_calls)
        self.reader = Desk("reader", setting.numbers, setting.limits.pending_calls)
        self.store = open_store(setting.path)
        self.own = open_store(setting.path)  # the reader's connection
        self.lookout = Lookout(self.store, self.desk, setting.wall)
        self.uploads = Uploads(setting.limits.upload_bytes)
        self.questions = Questions(setting.wall)
        self.nodes = Nodes()
        self.left: dict[str, float] = {}  # pilots that said that they leave, and when; in memory, for the page
        self._servers: dict[str, Server] = {}

    def server(self, name: str) -> Server:
        """The queue of that name as pilots use it; for the database thread."""
        found = self._servers.get(name)
        if found is None:
            _check_queue(self.store, name)
            own = LocalServer(self.store, self.setting.matcher, name, self.wall)
            found = self._servers[name] = self.setting.watched(own)
        return found

    def has_queue(self, name: str) -> bool:
        """Whether the file holds a queue of that name; for the database thread."""
        return name in self._servers or name in names_of(self.store)

    def queue(self, name: str, caller: Caller, store: Store | None = None) -> LocalQueue:
        """The queue of that name as this user may use it: all of it, or the part that is the user's own."""
        return LocalQueue(store or self.store, self.setting.matcher, caller.user, name, self.wall, caller.sees)

    def waited_for(self, job_ids: Sequence[str]) -> bool:
        """Whether other jobs wait for one of these; for the database thread."""
        with self.store.reading() as db:
            return db.execute(WAITED_FOR, (json.dumps(list(job_ids)),)).fetchone() is not None

    def begin(self) -> None:
        """Before the first call is heard: whoever could not renew because nobody answered has time to."""
        with effect("queue.begin"), self.store.writing() as db:
            fate.begin_anew(db, self.wall())

    def drain(self) -> None:
        """Long looks are answered now; nobody waits any more."""
        self.lookout.end()

    def close(self) -> None:
        """Ends the threads when they have done what they were given, then lets go of the file."""
        self.desk.close()
        self.reader.close()
        self.store.close()
        self.own.close()


def _check_queue(store: Store, name: str) -> None:
    with store.reading() as db:
        read_settings(db, name)


def names_of(store: Store) -> Sequence[str]:
    """The queues that the file holds."""
    with store.reading() as db:
        return [str(row[0]) for row in db.execute("SELECT name FROM queue ORDER BY name")]
