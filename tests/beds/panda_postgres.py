"""PostgreSQL without installation: its own folder, a Unix socket and no port. Standard library only."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534
START_SECONDS = 20.0
# A test's data need not outlive its machine, and a test's server needs little memory.
FAST = (
    "fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off", "shared_buffers=16MB",
    "max_connections=20", "max_wal_size=64MB", "min_wal_size=2MB", "max_wal_senders=0", "wal_level=minimal",
    "listen_addresses=", "dynamic_shared_memory_type=mmap", "unix_socket_permissions=0777",
    "max_worker_processes=1", "max_parallel_workers=0",
)  # fmt: skip


def as_ordinary() -> list[str]:
    """PostgreSQL refuses to be root: then it is called nobody, in a namespace where root's files are nobody's."""
    who = [f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    return [] if os.geteuid() else ["unshare", "--user", *who]


class Postgres:
    """The programs under `programs` (an unpacked `usr`), the data under `data`."""

    def __init__(self, programs: Path, data: Path) -> None:
        self._programs = programs
        self._data = data

    def initialise(self) -> None:
        self._data.mkdir(mode=0o700)
        words = ["--username=panda", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8", "--wal-segsize=1"]
        subprocess.run(
            [*as_ordinary(), self._program("initdb"), f"--pgdata={self._data}", *words],
            env=self._environment(), stdout=subprocess.DEVNULL, check=True, timeout=60,
        )  # fmt: skip

    @contextlib.contextmanager
    def serving(self, sockets: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Runs until the end of the block; ends it by its own process id."""
        switches = [word for each in (*FAST, f"unix_socket_directories={sockets}") for word in ("-c", each)]
        command = [self._program("postgres"), "-D", str(self._data), *switches]
        with log.open("ab") as written:
            process = subprocess.Popen(
                [*as_ordinary(), "setpriv", "--pdeathsig", "INT", *command],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=written, stderr=written,
            )  # fmt: skip
        try:
            wait_for(sockets / ".s.PGSQL.5432", process, log)
            yield process
        finally:
            stop(process, signal.SIGINT)

    def _program(self, name: str) -> str:
        (folder,) = self._programs.glob("lib/postgresql/*/bin")
        return str(folder / name)

    def _environment(self) -> dict[str, str]:
        return {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(self._programs / "own-lib")}


def wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """A socket that appears is all that PostgreSQL says."""
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{path} does not appear: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """Ends one process that we started, and waits for it."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def copy_data(template: Path, target: Path) -> None:
    shutil.copytree(template, target, copy_function=shutil.copyfile)
    for path in (target, *target.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
