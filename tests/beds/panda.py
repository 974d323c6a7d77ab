"""A real PanDA server on loopback, with a database and a site of its own; scripts/get-panda makes what it runs.

The server is the package from PyPI, untouched. Its clients here: pilots, through the plain or the TLS address; and the
test, through the calls below, which use the package's own functions.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.beds import panda_settings
from tests.beds.issuer import Issuer
from tests.beds.panda_jobs import MORE_TABLES, RSE, SEED, SITE, STATUSES, PandaJob, queue, storage
from tests.beds.panda_postgres import Postgres, copy_data, stop
from tests.fakes.authority import Authority, Pair

TREE = Path(__file__).resolve().parents[2]
NAME = "/CN=Robot Pilot"
TABLES = ("jobsDefined4", "jobsActive4", "jobsArchived4")
START_SECONDS = 30.0


class PandaBed:
    """One server; `url` without TLS knows every caller as a pilot, `https` only those with certificate or token."""

    def __init__(self, made: Path, home: Path) -> None:
        self._made = made
        self.home = home
        self._ends = contextlib.ExitStack()
        self._tls = contextlib.ExitStack()
        self.storage = home / "storage"

    # --- begin and end ---

    def start(self) -> None:
        panda_settings.write(self.home, self.home)
        (self.storage / "write").mkdir(parents=True)
        copy_data(self._made / "template", self.home / "data")
        listener, port = _listener()
        self.url = f"http://127.0.0.1:{port}"
        self.issuer = Issuer(self.home / "cache" / "issuer", f"{self.url}/cache/issuer")
        (self.home / "auth" / "wlcg.pilot_auth_config.json").write_text(json.dumps(self.issuer.client()))
        self._write_site()
        postgres = Postgres(self._made / "usr", self.home / "data")
        self._ends.enter_context(postgres.serving(self.home, self.home / "log" / "postgres.log"))
        self._ends.enter_context(self._front(listener, {"BED_PLAIN_DN": NAME}))
        self._until_alive()
        self._seed()

    def close(self) -> None:
        self._ends.close()

    @cached_property
    def authority(self) -> Authority:
        place = self.home / "authority"
        place.mkdir()
        return Authority(place)

    @cached_property
    def https(self) -> str:
        """A second listener on the same database, with TLS and client certificates; starts at first use."""
        self._ends.callback(self._tls.close)
        return f"https://127.0.0.1:{self._serve_tls()}"

    def _serve_tls(self, port: int = 0) -> int:
        listener, found = _listener(port)
        tls = {"BED_TLS": str(self.authority.issue().file), "BED_CA": str(self.authority.file)}
        self._tls.enter_context(self._front(listener, tls))
        return found

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Nobody answers at the TLS address for that long."""
        port = int(self.https.rpartition(":")[2])
        self._tls.close()
        try:
            yield
        finally:
            self._serve_tls(port)

    def robot(self) -> Pair:
        """A certificate whose name says that a pilot may use it."""
        return self.authority.issue(subject="Robot Pilot")

    @contextlib.contextmanager
    def _front(self, listener: socket.socket, more: Mapping[str, str]) -> Iterator[None]:
        """gunicorn on a socket that listens already: whoever connects early waits, nobody is refused."""
        log = self.home / "log" / "gunicorn.log"
        words = ["-c", "python:tests.beds.panda_gunicorn", "-b", f"fd://{listener.fileno()}"]
        with listener, log.open("ab") as written:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", str(self._made / "venv/bin/python"), "-m", "gunicorn", *words,
                 "tests.beds.panda_app:application"],
                env={**panda_settings.environment(self.home, TREE), **more}, stdin=subprocess.DEVNULL,
                stdout=written, stderr=written, pass_fds=[listener.fileno()], cwd=self.home,
            )  # fmt: skip
        try:
            yield
        finally:
            stop(process, signal.SIGINT)

    def _until_alive(self) -> None:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/system/is_alive", timeout=START_SECONDS) as reply:
                assert reply.status == 200
        except OSError as error:
            log = (self.home / "log" / "gunicorn.log").read_text(errors="replace")
            raise RuntimeError(f"the server does not start: {error}\n{log[-3000:]}") from None

    def _write_site(self) -> None:
        """What CRIC and the server's cache tell pilots of queues and storages."""
        cache = self.home / "cache"
        (cache / "schedconfig").mkdir()
        for name in STATUSES:
            (cache / "schedconfig" / f"{name}.all.json").write_text(json.dumps(queue(name)))
        (cache / "ddmendpoints.json").write_text(json.dumps(storage(str(self.storage / "write"))))

    def _seed(self) -> None:
        for statement in MORE_TABLES:
            self.execute(statement)
        for table, row in SEED:
            self.insert(table, row)
        for name in STATUSES:
            self.insert("schedconfig_json", {"panda_queue": name, "data": json.dumps(queue(name))})
            self.insert("panda_site", {"panda_site_name": name, "site_name": SITE, "is_local": "Y"})
            roles = {"order_read": 1, "order_write": 1, "default_read": "Y", "default_write": "Y", "scope": "default"}
            known = {"panda_site_name": name, "ddm_endpoint_name": RSE, "is_local": "Y", "roles": "read_lan,write_lan"}
            self.insert("panda_ddm_relation", {**known, **roles})

    # --- what a test asks ---

    def submit(self, job: PandaJob) -> int:
        """Stores a job as JEDI does, and waits until pilots can get it."""
        row, files = job.rows()
        number = int(self._call("submit", job=row, files=files))
        until(lambda: self.state(number) == "activated", f"job {number} is not activated")
        return number

    def job(self, number: int) -> dict[str, Any]:
        """The job's row, wherever it stands now; names of columns in small letters."""
        for table in TABLES:
            found = self.execute(f"SELECT * FROM DOMA_PANDA.{table} WHERE PandaID = %s", number)
            if found:
                return found[0]
        raise LookupError(f"no job {number}")

    def state(self, number: int) -> str:
        """The job's status, by its row."""
        return str(self.job(number)["jobstatus"])

    def run_adder(self, number: int) -> str:
        """The server's own adder judges the report of one job; gives its status after that."""
        self._call("adder", job_id=number)
        return self.state(number)

    def kill(self, number: int) -> None:
        """As an operator ends a job."""
        self.command(number, "tobekilled")

    def command(self, number: int, words: str) -> None:
        """What the job's next heartbeat is to bring to its pilot."""
        reply = self.panda("job/set_command", job_id=number, command=words)
        assert reply["success"], reply

    def own(self, number: int, by: str = "jedi") -> None:
        """Notes whose job it is: of JEDI's, pilots are told the task; the adder waits for JEDI, which is not here."""
        self.execute("UPDATE DOMA_PANDA.jobsActive4 SET lockedby = %s WHERE PandaID = %s", by, number)

    def clear(self) -> None:
        """No job is left that a pilot could get."""
        for table in TABLES:
            self.execute(f"DELETE FROM DOMA_PANDA.{table}")

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.execute(f"SELECT * FROM DOMA_PANDA.{table}")

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        places = ", ".join(["%s"] * len(row))
        self.execute(f"INSERT INTO DOMA_PANDA.{table} ({', '.join(row)}) VALUES ({places})", *row.values())

    def execute(self, sql: str, *values: object) -> list[dict[str, Any]]:
        found = self._call("execute", sql=sql, values=list(values))
        assert isinstance(found, list)
        return found

    def panda(self, path: str, **arguments: object) -> dict[str, Any]:
        """One POST of PanDA's own, as a pilot without TLS sends it."""
        answer = self._post(f"/api/v1/{path}", arguments)
        assert isinstance(answer, dict)
        return answer

    def _call(self, verb: str, **arguments: object) -> Any:
        return self._post(f"/bed/{verb}", arguments)

    def _post(self, path: str, arguments: Mapping[str, object]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(arguments).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())

    def asked(self, path: str) -> int:
        """How often that call of PanDA's has been made so far."""
        log = (self.home / "log" / "access.log").read_text()
        return [each.partition("?")[0] for each in log.split()].count(f"/api/v1/{path}")

    def errors(self) -> str:
        """What PanDA itself logged as wrong of late; for a test that fails."""
        logs = [self.home / "log" / f"panda-{each}.log" for each in ("DBProxy", "api_pilot", "adder")]
        lines = [line for each in logs if each.exists() for line in each.read_text(errors="replace").splitlines()]
        return "\n".join([each[:300] for each in lines if "ERROR" in each][-10:])

    def mistakes(self) -> list[str]:
        """Statements that the database refused: what this bed's own tables lack."""
        log = (self.home / "log" / "postgres.log").read_text(errors="replace")
        return [each for each in log.splitlines() if " ERROR: " in each]


@contextlib.contextmanager
def panda_bed() -> Iterator[PandaBed]:
    """A server for the block, in a folder with a short name: a Unix socket's path has 107 letters."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    home = Path(tempfile.mkdtemp(prefix="panda-bed-", dir=place))
    bed = PandaBed(made_by_script(), home)
    try:
        bed.start()
        yield bed
    finally:
        bed.close()
        shutil.rmtree(home)


def made_by_script() -> Path:
    """Its absence is a failure, never a silent skip."""
    said = subprocess.run(
        [TREE / "scripts/get-panda", "--print"], capture_output=True, text=True, timeout=300, check=False
    )
    assert said.returncode == 0, f"no PanDA server for the test bed: {said.stderr}"
    return Path(said.stdout.strip())


def _listener(port: int = 0) -> tuple[socket.socket, int]:
    made = socket.create_server(("127.0.0.1", port), backlog=256)
    return made, int(made.getsockname()[1])


def until(true: Any, otherwise: str, patience_s: float = 20.0) -> None:
    """Waits for something that nobody announces."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"{otherwise} after {patience_s} s"
        time.sleep(0.02)
