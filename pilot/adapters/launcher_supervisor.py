"""The `Launcher` port over the supervisor process: payloads that outlive a crash of the pilot."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Final, Gone, Launch, OnGone
from pilot.supervisor import leftover, record
from pilot.supervisor.client import Client, Event, Payload, SupervisorLost

_LEAVE_SECONDS = 20.0


class SupervisorLauncher:
    """One supervisor per state directory, started before any thread; one thread reads what it tells."""

    def __init__(self, state: Path, adopt_window: float) -> None:
        self._state = state
        self._window = adopt_window
        self._client = Client.begin(str(state), adopt_window)
        self._lock = threading.Lock()
        self._connected = threading.RLock()  # held while another supervisor is looked for
        self._records: dict[str, Path] = {}
        self._held: dict[str, dict[str, object]] = {}
        self._leaving = False
        self._reader: threading.Thread | None = None
        self._on_gone: OnGone = lambda _: None

    def attend(self, on_gone: OnGone) -> None:
        """From now on every end is told to `on_gone`; to be called before the first start."""
        self._on_gone = on_gone
        self._connect()

    def start(self, launch: Launch) -> None:
        """Starts it; its end comes through `on_gone`."""
        launch.record.mkdir(parents=True, exist_ok=True)
        if self._took_over(launch.launch, launch.record):
            return
        payload = Payload(
            id=launch.launch,
            argv=launch.plan.argv,
            env={**dict(launch.plan.environment), "PILOT_MARK": launch.launch},
            cwd=launch.plan.directory,
            directory=str(launch.record),
            stdout=str(launch.stdout),
            stderr=str(launch.stderr),
            head_bytes=launch.log_bytes // 2,
            tail_bytes=launch.log_bytes // 2,
            grace=launch.grace,
            group=launch.plan.isolation.container == "none",
        )
        with self._connected, effect("launcher.start"):
            self._order(lambda client: client.start(payload))

    def adopt(self, launch: str, record: Path) -> bool:
        """Takes over what an earlier pilot started, running or ended; False = nothing of that name can be found."""
        if self._took_over(launch, record):
            return True
        ended = _exit_record(record)
        if ended is None:
            return self._swept(launch, record)
        self._tell(launch, ended)
        return True

    def _took_over(self, launch: str, record: Path) -> bool:
        """Whether the supervisor holds it, running or ended; from now on its end is awaited here.

        In one step with the noting of ends that nobody awaits yet, so that none falls between the two.
        """
        with self._lock:
            self._records[launch] = record
            held = self._held.pop(launch, None)
        ended = held.get("record") if held else None
        if ended is not None:
            self._tell(launch, cast("dict[str, object]", ended))
        return held is not None

    def stop(self, launch: str, grace: float) -> None:
        """TERM, grace, KILL, session sweep; the end comes through `on_gone`."""
        with effect("launcher.stop"):
            self._order(lambda client: client.stop(launch, grace))

    def signal(self, launch: str, number: int) -> None:
        """Sends one signal to the payload's process group."""
        self._order(lambda client: client.signal(launch, number))

    def forget(self, launch: str) -> None:
        """The end has been noted; its record may go. A supervisor that is gone has nothing to forget."""
        with self._lock:
            self._records.pop(launch, None)
            self._held.pop(launch, None)
        with contextlib.suppress(SupervisorLost):
            self._client.forget(launch)

    def close(self) -> None:
        """An orderly end: nothing runs any more. A successor that is just being looked for is let go as well."""
        self._leaving = True
        with self._connected:
            client, reader = self._client, self._reader
        with contextlib.suppress(SupervisorLost):
            client.leave()
        if reader is not None:
            reader.join(_LEAVE_SECONDS)
        client.close()

    def _connect(self) -> None:
        try:
            self._client.greet(10.0)
        except SupervisorLost:
            self._client.close()
            self._client = Client.launch(str(self._state), self._window)
        self._held = {str(each["id"]): each for each in self._client.payloads}
        reader = threading.Thread(target=self._client.pump, args=(self._hear,), name="ends", daemon=True)
        reader.start()
        self._reader = reader

    def _order(self, give: Callable[[Client], None]) -> None:
        try:
            give(self._client)
        except SupervisorLost as lost:
            raise Final(Code.PILOT_RESTARTED, str(lost)) from None

    def _hear(self, event: Event) -> None:
        if event.kind == "exited":
            self._tell(event.id, cast("dict[str, object]", event.body.get("record", event.body)))
        elif event.kind == "failed" and not event.body.get("duplicate"):
            self._fail(event.id, str(event.body.get("message", "could not be started")))
        elif event.kind == "lost" and not self._leaving:
            threading.Thread(target=self._bereaved, name="bereaved", daemon=True).start()

    def _tell(self, launch: str, ended: dict[str, object]) -> None:
        """The end goes to whoever awaits it; one that nobody awaits yet is kept for who will adopt it."""
        with self._lock:
            known = self._records.pop(launch, None)
            if known is None:
                self._held[launch] = {"record": ended}
        if known is not None:
            self._on_gone(_gone(launch, ended))

    def _fail(self, launch: str, message: str) -> None:
        with self._lock:
            known = self._records.pop(launch, None)
        if known is not None:
            self._on_gone(Gone(launch, None, None, gone=True, error=message))

    def _bereaved(self) -> None:
        """The supervisor died: its shims stop their payloads; each end is read from what they left.

        No start is given before its successor has answered: the first one that takes the connection may be the
        dying one itself, whose doors close one after another, and nobody would answer for what it was told.
        """
        with self._connected:
            self._end_all()
            if not self._leaving:
                self._client.close()
                self._client = Client.begin(str(self._state), self._window)
                self._connect()

    def _end_all(self) -> None:
        with self._lock:
            left = dict(self._records)
            self._held = {}  # who adopts from now on finds what the payload itself left
        for launch, folder in left.items():
            gone = leftover.sweep(str(folder))
            ended = _exit_record(folder) or {"gone": gone, "stopped_by": "supervisor-death"}
            self._tell(launch, {**ended, "error": "the supervisor process died"})

    def _swept(self, launch: str, folder: Path) -> bool:
        """No supervisor holds it. Never started: False. Started and lost: swept, and told as lost."""
        if not (folder / record.STARTED).exists():
            return False
        gone = leftover.sweep(str(folder))
        self._tell(launch, _exit_record(folder) or {"gone": gone, "stopped_by": "pilot-death"})
        return True


def _exit_record(folder: Path) -> dict[str, object] | None:
    try:
        return record.read(os.fspath(folder), record.EXIT)
    except (FileNotFoundError, ValueError):
        return None


def _gone(launch: str, ended: dict[str, object]) -> Gone:
    return Gone(
        launch=launch,
        exit_code=cast("int | None", ended.get("exit_code")),
        signal=cast("int | None", ended.get("signal")),
        gone=bool(ended.get("gone", False)),
        seconds=_number(ended, "seconds"),
        cpu_seconds=_number(ended, "user_seconds") + _number(ended, "system_seconds"),
        memory_peak_bytes=int(_number(ended, "max_rss_bytes")),
        stopped_by=str(ended.get("stopped_by", "")),
        error=str(ended.get("error", "")),
    )


def _number(ended: dict[str, object], name: str) -> float:
    found = ended.get(name)
    return float(found) if isinstance(found, int | float) else 0.0
