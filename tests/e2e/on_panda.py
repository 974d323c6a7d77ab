"""Pilots as processes on the test bed's PanDA server, as a site runs them."""

import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.beds.panda import PandaBed
from tests.beds.panda_jobs import RSE, File, PandaJob
from tests.e2e.piloted import Ended, Rig

LEASE = "6s"  # so that a heartbeat goes out every two seconds
TRF = "http://pandaserver.cern.ch:25080/trf/user"


@dataclass(frozen=True)
class OnPanda:
    """Pilots on the bed's server, over TLS and with a token, as a site runs them."""

    rig: Rig
    bed: PandaBed

    def config(self, token: str = "", **more: object) -> Path:
        secret = self.rig.root / "token"
        secret.touch(mode=0o600)
        secret.write_text(token or self.bed.issuer.token())
        told: dict[str, object] = {
            "queue": self.bed.https, "queue_name": "BED", "ca": str(self.bed.authority.file), "runtime": "bare",
            "token_file": str(secret), "token_origin": "wlcg.pilot", "panda_lease": LEASE, "idle_exit": "1s",
            "panda_storages": {RSE: self.bed.storage.as_uri()}, "grace": "2s", **more,
        }  # fmt: skip
        path = self.rig.root / "pilot.json"
        path.write_text(json.dumps({key: each for key, each in told.items() if each is not None}))
        return path

    @property
    def words(self) -> tuple[str | Path, ...]:
        return ("--state", self.rig.root / "state" / "panda", "--format", "json")

    def run(self, *flags: str | Path, env: dict[str, str] | None = None, **more: Any) -> Ended:
        return self.rig.pilot("run", "--config", self.config(**more), *self.words, *flags, **(env or {}))

    @contextlib.contextmanager
    def running(self, *flags: str | Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
        with self.rig.begin("run", "--config", self.config(**more), *self.words, *flags) as process:
            yield process

    def finish(self, job: PandaJob, **more: Any) -> tuple[int, str]:
        """One job on one pilot; its number, and what the adder makes of it."""
        number = self.bed.submit(job)
        ended = self.run("--max-jobs", "1", **more)
        assert ended.code == 0, ended.err
        assert self.bed.state(number) == "holding", f"{ended.out}\n{ended.err}\n{self.bed.errors()}"
        return number, self.bed.run_adder(number)

    def stored(self, scope: str, name: str) -> Path:
        digest = hashlib.md5(f"{scope}:{name}".encode()).hexdigest()
        folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
        return self.bed.storage / folder / digest[:2] / digest[2:4] / name

    def seen(self, number: int) -> str:
        """What the server shows of a job under debugging."""
        rows = self.bed.execute("SELECT stdOut FROM DOMA_PANDA.jobsDebug WHERE PandaID = %s", number)
        return str(rows[0]["stdout"]) if rows else ""

    def put(self, scope: str, name: str, data: bytes) -> File:
        place = self.stored(scope, name)
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
        return File(name, "input", len(data), f"ad:{zlib.adler32(data):08x}", scope=scope)

    def sandbox(self, name: str, files: dict[str, str]) -> str:
        """A user's sandbox on the server; gives the words that name it."""
        with tarfile.open(self.bed.home / "cache" / name, "w:gz") as archive:
            for path, text in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        return f"--sourceURL {self.bed.https} -a {name}"
