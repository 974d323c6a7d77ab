"""A supervisor under test: its client, its payloads, and the proof that nothing of them is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from pilot.supervisor import procs
from pilot.supervisor.client import Client, Event, Payload, SupervisorLost

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0


def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Waits for a fact about processes or files, which nobody announces."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"still not so after {patience_s} s"
        time.sleep(0.01)


class Rig:
    """One state directory and all that was started from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.state.mkdir(parents=True)
        self.mark = uuid.uuid4().hex
        self.clients: list[Client] = []

    def launch(self, window: float = 0.0) -> Client:
        client = Client.launch(str(self.state), window)
        self.clients.append(client)
        return client

    def payload(self, name: str, *argv: str, **fields: object) -> Payload:
        directory = self.root / name
        directory.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "PILOT_MARK": self.mark}
        plain: dict[str, object] = {
            "id": name,
            "argv": argv,
            "env": environment,
            "cwd": str(directory),
            "directory": str(directory),
            "stdout": str(directory / "out"),
            "stderr": str(directory / "err"),
            "grace": 5.0,
        }
        return Payload(**(plain | fields))  # type: ignore[arg-type]

    def shell(self, name: str, script: str, **fields: object) -> Payload:
        return self.payload(name, "/bin/sh", "-c", script, **fields)

    def python(self, name: str, script: str, **fields: object) -> Payload:
        return self.payload(name, sys.executable, "-S", "-E", "-c", script, **fields)

    def file(self, name: str, file: str) -> Path:
        return self.root / name / file

    def ours(self) -> list[int]:
        """Supervisors and shims by their command line, payloads by the mark in their environment; no zombies."""
        return [process.pid for process in procs.table() if process.state not in "ZX" and self._is_ours(process.pid)]

    def _is_ours(self, pid: int) -> bool:
        if pid == os.getpid():
            return False
        with contextlib.suppress(OSError):
            if str(self.state).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return True
            return self.mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def end(self) -> None:
        for client in self.clients:
            with contextlib.suppress(SupervisorLost):
                client.leave()
        for client in self.clients:
            wait_lost(client)
            client.close()
        until(lambda: not self.ours())
        assert procs.descendants(os.getpid(), procs.table()) == []


def wait_lost(client: Client) -> None:
    while (event := client.next(PATIENCE_S)).kind != "lost":
        assert event.kind != "none", "the supervisor neither speaks nor ends"


def wait(client: Client, kind: str, name: str = "", patience_s: float = PATIENCE_S) -> Event:
    """The next event of this kind (and payload); others on the way must not be failures."""
    while True:
        event = client.next(patience_s)
        assert event.kind not in ("none", "lost"), f"waited for {kind} {name}, got {event}"
        if event.kind == kind and name in ("", event.id):
            return event
        assert event.kind in ("started", "exited"), event


def record_of(client: Client, name: str = "") -> dict[str, object]:
    record = wait(client, "exited", name).body["record"]
    assert isinstance(record, dict)
    return record


def alive(pid: int) -> bool:
    try:
        return procs.look(pid).state not in "ZX"
    except procs.Gone:
        return False


PILOT = """
import sys
sys.path.insert(0, {root!r})
from pilot.supervisor.client import Client, Payload
client = Client.launch({state!r}, {window})
client.start(Payload(**{fields!r}))
while {waits} and client.next().kind != "started":
    pass
print(client.pid, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def pilot_process(rig: Rig, payload: Payload, window: float, waits: bool = True) -> Iterator[tuple[int, int]]:
    """A pilot in a process of its own: gives its and its supervisor's number, and kills it with -9 at the end."""
    fields = {name: getattr(payload, name) for name in Payload.__slots__}
    script = PILOT.format(root=str(ROOT), state=str(rig.state), window=window, fields=fields, waits=waits)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
