"""Pilots as processes on the test bed's PanDA server, as a site runs them."""

import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.beds.panda import TREE, PandaBed
from tests.beds.panda_jobs import RSE, File, PandaJob
from tests.e2e.piloted import Ended, Rig

LEASE = "6s"  # so that a heartbeat goes out every two seconds
IN = ("inFiles", "scopeIn", "GUID")
TRF = "http://pandaserver.cern.ch:25080/trf/user"


RECORDED = TREE / "tests/adapters/recorded/panda"
# What of a recorded definition is this machine's: which interpreter there is, which image.
HERE = (("python%20", "python3%20"), ("atlas/analysisbase:21.2.39", "test-tiny"))


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

    def recorded(self, name: str, sandbox: dict[str, str], data: bytes) -> PandaJob:
        """The recorded definition as a job here: the same in all but this machine's names; every input holds `data`."""
        told = json.loads((RECORDED / f"{name}.json").read_text())
        words = told["jobPars"].replace("https://panda.example.org:25443", self.bed.https)
        for theirs, ours in HERE:
            words = words.replace(theirs, ours)
        self.sandbox(words.partition(" -a ")[2].split()[0], sandbox)
        columns = [each for each in zip(*(told[key].split(",") for key in IN), strict=True) if each[0]]
        inputs = [replace(self.put(scope, lfn, data), guid=guid) for lfn, scope, guid in columns]
        ends = dict(zip(told["outFiles"].split(","), told["destinationDblock"].split(","), strict=True))
        # The server gives the log a GUID of its own.
        log = File(told["logFile"], "log", scope=told["scopeLog"], block=ends.pop(told["logFile"]))
        outputs = [File(lfn, "output", scope="user.ada", block=block) for lfn, block in ends.items()]
        image = {"container_name": "test-tiny"} if told.get("container_name") else {}
        more = {**image, "jediTaskID": told["taskID"]}
        return PandaJob(told["transformation"], words, files=[*inputs, *outputs], log=log, more=more)

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
