"""One queue file: opened, written in whole transactions, read in snapshots, shared by many processes.

Every write is one `BEGIN IMMEDIATE ... COMMIT`, on disk (synchronous) before it is answered; who finds the file
locked waits. SQLite's own errors leave this module only as `PortError`s with one clear line.
"""

import errno
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Final, Passing, PortError
from pilot.queue import counting, filesystem, schema, upgrade

BUSY_SECONDS = 30.0  # longer than any transaction of ours; shorter than a lease
CACHE_KIB = 32 << 10  # grows as pages are touched; a pilot of a small queue never fills it
CHECKPOINT_PAGES = 4000  # 16 MB: a page that many commits touch is folded into the file once for all of them
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
LocksWork = Callable[[Path], bool]

# SQLite's primary result codes -> what we raise, and what it says.
FOREIGN: dict[int, tuple[type[PortError], Code, str]] = {
    sqlite3.SQLITE_BUSY: (Passing, Code.SERVER_UNREACHABLE, "another process holds the queue file; try again"),
    sqlite3.SQLITE_LOCKED: (Passing, Code.SERVER_UNREACHABLE, "another process holds the queue file; try again"),
    sqlite3.SQLITE_PROTOCOL: (Passing, Code.SERVER_UNREACHABLE, "the queue file's locks are contended; try again"),
    sqlite3.SQLITE_FULL: (Passing, Code.SERVER_UNREACHABLE, "the disk is full; make room"),
    sqlite3.SQLITE_IOERR: (Passing, Code.SERVER_UNREACHABLE, "the disk reported an error"),
    sqlite3.SQLITE_CANTOPEN: (Final, Code.SERVER_UNREACHABLE, "cannot be opened; check the path and its permissions"),
    sqlite3.SQLITE_READONLY: (Final, Code.SERVER_UNREACHABLE, "may not be written; check its permissions"),
    sqlite3.SQLITE_PERM: (Final, Code.SERVER_UNREACHABLE, "may not be opened; check its permissions"),
    sqlite3.SQLITE_CORRUPT: (Final, Code.SERVER_REFUSED, "is damaged; restore it from a copy"),
    sqlite3.SQLITE_NOTADB: (Final, Code.SERVER_REFUSED, "is not a queue; name another file"),
}


class Store:
    """An open queue file. One connection, used by one thread at a time."""

    def __init__(self, path: Path, db: sqlite3.Connection, warning: str = "") -> None:
        self.path = path
        self.warning = warning
        self._db = db
        self._lock = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on disk when the block is left, undone if it raises."""
        with self._lock, _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                with effect("queue.commit"):
                    self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot."""
        with self._lock, _translated(self.path):
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def version(self) -> int:
        """A number that changes when another connection has written; costs no transaction."""
        with self._lock, _translated(self.path):
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file's structure; empty when it is sound."""
        with self.reading() as db:
            found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(10)")]
            found += counting.differences(db)
            dangling = [f"{row[0]} row {row[1]}: no such {row[2]}" for row in db.execute("PRAGMA foreign_key_check")]
        return tuple([each for each in found if each != "ok"] + dangling)

    def close(self) -> None:
        """Closes the file; the last one out folds the write-ahead log into it."""
        with self._lock, _translated(self.path):
            self._db.close()


def open_store(path: Path, busy_seconds: float = BUSY_SECONDS, mountinfo: str | None = None) -> Store:
    """Opens a queue file that is there."""
    whole = path.absolute()
    if not whole.exists():
        raise Final(Code.SERVER_UNREACHABLE, f"{path}: no queue here; make one: pilot queue init --queue sqlite:{path}")
    with _translated(path):
        db = _connect(f"{whole.as_uri()}?mode=rw", busy_seconds)
    try:
        with _translated(path):
            warning = _prepare(db, path, filesystem.read_mountinfo() if mountinfo is None else mountinfo)
    except PortError:
        db.close()
        raise
    return Store(path, db, warning)


def create_store(
    path: Path, mountinfo: str | None = None, locks_work: LocksWork = filesystem.locks_work
) -> filesystem.Advice:
    """Makes an empty queue file under that name, whole or not at all; says how it will be opened."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise Final(Code.SERVER_UNREACHABLE, f"{folder}: no such directory; make it first")
    mounts = filesystem.read_mountinfo() if mountinfo is None else mountinfo
    advice = filesystem.advise(folder.resolve(), mounts, locks_work)
    if not advice.journal:
        raise Final(Code.SERVER_UNREACHABLE, f"{path}: {advice.reason}; put the queue on a local disk")
    with _translated(path), tempfile.TemporaryDirectory(dir=folder, prefix=".pilot-queue-") as room:
        fresh = Path(room) / "queue"
        _write_empty(fresh, advice.journal)
        _publish(fresh, path, folder)
    return advice


def _connect(address: str, busy_seconds: float) -> sqlite3.Connection:
    db = sqlite3.connect(address, busy_seconds, isolation_level=None, check_same_thread=False, uri=True)
    db.row_factory = sqlite3.Row
    return db


def _prepare(db: sqlite3.Connection, path: Path, mountinfo: str) -> str:
    """Checks that this is a queue file of ours in a safe place, and sets the connection up; returns a warning."""
    identity = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if identity != schema.APPLICATION_ID:
        raise Final(Code.SERVER_REFUSED, f"{path}: not a queue; name another file")
    if version not in (upgrade.FROM, schema.VERSION):
        advice = "use the pilot that made it, or a new queue"
        raise Final(Code.SERVER_REFUSED, f"{path}: schema version {version}, not {schema.VERSION}; {advice}")
    journal = db.execute("PRAGMA journal_mode").fetchone()[0]
    warning = _place(path, journal, mountinfo)
    # EXTRA also syncs the directory after the rollback journal is gone, without which a commit may be undone.
    db.execute(f"PRAGMA synchronous = {'FULL' if journal == 'wal' else 'EXTRA'}")
    if version == upgrade.FROM:
        upgrade.upgrade(db)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute("PRAGMA trusted_schema = OFF")
    return warning


def _place(path: Path, journal: str, mountinfo: str) -> str:
    """Refuses a write-ahead log on a file system that several machines may mount (the file may have been moved)."""
    advice = filesystem.advise(path.absolute().resolve().parent, mountinfo, lambda _: True)
    if advice.journal == "wal":
        return ""
    if journal == "wal":
        raise Final(
            Code.SERVER_REFUSED,
            f"{path}: {advice.reason}, where this queue's write-ahead log is not safe; move it to a local disk",
        )
    return slow_place(advice)


def slow_place(advice: filesystem.Advice) -> str:
    """The warning that goes with a rollback journal."""
    return f"{advice.reason}: no write-ahead log there, commits are slower; a local disk is better"


def _write_empty(path: Path, journal: str) -> None:
    with closing(_connect(path.as_uri(), BUSY_SECONDS)) as db:
        db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {schema.VERSION}")
        db.executescript(schema.TABLES)
        db.execute(f"PRAGMA journal_mode = {journal}")


def _publish(fresh: Path, path: Path, folder: Path) -> None:
    """Gives the file its name, unless that name is taken."""
    with effect("queue.create"):
        try:
            os.link(fresh, path)
        except FileExistsError:
            raise Final(Code.STORAGE_EXISTS, f"{path}: there is a file already; name another") from None
        except OSError as problem:
            if problem.errno not in NO_LINKS or path.exists():
                raise
            os.rename(fresh, path)
        _sync_directory(folder)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with effect("queue.create-sync"):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as problem:
        raise _ours(problem, path) from problem
    except OSError as problem:
        raise Passing(Code.SERVER_UNREACHABLE, f"{path}: {problem.strerror or problem}") from problem


def _ours(problem: sqlite3.Error, path: Path) -> PortError:
    primary = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    kind, code, text = FOREIGN.get(primary, (Final, Code.SERVER_REFUSED, str(problem)))
    return kind(code, f"{path}: {text}")
