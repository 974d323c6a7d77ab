"""A fake server, its authority, and lines to it: what the tests of the transport need."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pilot.adapters.credentials_token import NoCredential, TokenFile
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine, Limits
from pilot.adapters.server_own import OwnServer
from pilot.adapters.server_queue import OwnQueue
from pilot.ports import Credentials
from tests.contracts.server_beds import LocalBed
from tests.fakes.authority import Authority
from tests.fakes.server import USER_TOKEN, FakeServer

USUAL = Limits()
QUICK = Limits(connect=2.0, answer=0.5)  # for answers that do not come


class Reached(LocalBed):
    """One queue, served with faults on demand over TLS, or over plain http where `tls` is false."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", tls: bool = True) -> None:
        super().__init__(folder)
        self.folder = folder
        self.authority = Authority(folder)
        self.server = FakeServer(self.path, self.clock, self.authority.issue().file if tls else None, host)
        self.gate = Gate()
        self._lines: list[HttpLine] = []

    def token(self, text: str, name: str = "token") -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def line(
        self,
        credentials: Credentials | None = None,
        limits: Limits = USUAL,
        ca: str | None = None,
        environment: Mapping[str, str] | None = None,
        gate: Gate | None = None,
    ) -> HttpLine:
        trusted = str(self.authority.file) if ca is None else ca
        line = HttpLine(
            self.server.url, credentials or NoCredential(), gate or self.gate, trusted, limits, environment or {}
        )
        self._lines.append(line)
        return line

    def server_port(self, limits: Limits = USUAL) -> OwnServer:
        return OwnServer(Calls(self.line(limits=limits, gate=Gate()), "default"))

    def owner(self) -> OwnQueue:
        token = TokenFile(self.token(USER_TOKEN + "owner", "owner"))
        return OwnQueue(Calls(self.line(token, gate=Gate()), "default"))

    def close(self) -> None:
        for each in self._lines:
            each.close()
        with contextlib.closing(self.server):
            self.server.plan.clear()
        super().close()
