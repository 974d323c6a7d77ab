"""`pilot queue serve` killed with -9 while jobs run: what an outage costs, shorter and longer than the lease."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pilot.adapters.credentials_token import TokenFile
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_own import OwnServer
from pilot.model.job import Grant
from tests.contracts.server_beds import ask, offer
from tests.e2e.piloted import Rig, until
from tests.sandboxes import TREE

LEASE = 4.0
# Of the first attempt it waits until it is let go; any other one would be done at once.
PAYLOAD = """echo $PILOT_ATTEMPT >>"$0/here"
while [ "$PILOT_ATTEMPT" = 1 ] && [ ! -e "$0/go" ]; do sleep 0.02; done
echo "$PILOT_ATTEMPT" >out.txt
"""


class Site:
    """A queue file, its service, which can be killed and comes back on the same port, and pilots on it."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.port = rig, 0
        made = rig.pilot("queue", "init", "--queue", rig.url, "--output", rig.root / "out", "--lease", f"{LEASE}s")
        assert made.code == 0, made.err
        assert rig.pilot("queue", "serve", "--queue", rig.url, "--setup").code == 0
        [self.job] = rig.queue(rig.job("job", "sh", "-c", PAYLOAD, str(rig.root), outputs=[{"name": "out.txt"}]))
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "pilot", "queue", "serve", "--queue", self.rig.url,
                   "--listen", f"localhost:{self.port}", "--log-level", "error"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(TREE)}
        self.service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.service.stdout is not None
        with self.service.stdout as words:
            assert select.select([words], [], [], 30)[0]
            self.url = words.readline().strip()
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.service.kill()
        self.service.wait(10)

    @contextlib.contextmanager
    def pilot(self, state: str) -> Iterator[subprocess.Popen[str]]:
        keys = self.rig.root / "queue-keys"
        [token] = keys.glob("pilot-*.token")
        words = ("--state", self.rig.root / "state" / state, "--token-file", token, "--runtime", "bare")
        with self.rig.begin("run", "--queue", self.url, "--format", "json", "--max-jobs", "1", *words,
                            PILOT_CA=str(keys / "ca.pem")) as process:  # fmt: skip
            yield process

    def claim(self, claim_id: str) -> Grant | None:
        """A claim as a pilot makes it, at once."""
        keys = self.rig.root / "queue-keys"
        [token] = keys.glob("pilot-*.token")
        line = HttpLine(self.url, TokenFile(token), Gate(), str(keys / "ca.pem"), environment={})
        with contextlib.closing(OwnServer(Calls(line, "default"))) as server:
            [grant] = server.claim(ask(claim_id, by=offer(claim_id, runtime="bare")))
        return grant

    def log(self, state: str) -> str:
        path = self.rig.root / "state" / state / "pilot.log"
        return path.read_text() if path.exists() else ""

    def let_go(self) -> None:
        (self.rig.root / "go").write_text("")

    def attempts(self) -> list[str]:
        path = self.rig.root / "here"
        return path.read_text().split() if path.exists() else []

    def stored(self) -> list[str]:
        return sorted(each.parent.name for each in (self.rig.root / "out").glob("*/*/out.txt"))

    def results(self) -> list[tuple[int, str]]:
        return [(each["attempt"], each["verdict"]) for each in self.rig.reports(self.rig.root / "queue.db", self.job)]


@pytest.fixture
def site(rig: Rig) -> Iterator[Site]:
    made = Site(rig)
    yield made
    made.service.send_signal(signal.SIGTERM)
    made.service.wait(20)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("leases", [0.75, 2.0])
def test_silence_does_not_end_a_payload(site: Site, leases: float) -> None:
    """Another pilot waits for work all the time: those who compute come first when the queue is back."""
    with site.pilot("first") as first:
        until(site.attempts)
        with site.pilot("idle") as idle:
            until(lambda: "registered" in site.log("idle"))
            site.kill()
            time.sleep(leases * LEASE)
            site.start()
            failed = site.log("first").count("heartbeat failed")
            assert failed >= 1
            time.sleep(LEASE)  # long enough for whoever was not heard of to have lost the job
            site.let_go()
            code, said = ended(first)
            idle.send_signal(signal.SIGTERM)
            assert ended(idle)[1][-1]["pilot"]["verdicts"] == {}
    assert (code, said[0]["verdict"], said[0]["attempt"], said[0]["accepted"]) == (0, "succeeded", 1, True)
    assert (site.attempts(), site.stored(), site.results()) == (["1"], ["1"], [(1, "succeeded")])


def test_what_ran_out_while_nobody_served_is_nobody_elses_at_once(site: Site) -> None:
    assert site.claim("first") is not None
    site.kill()
    time.sleep(1.1 * LEASE)
    site.start()
    assert site.claim("second") is None


def test_what_ends_meanwhile_waits_for_the_queue_before_it_is_stored(site: Site) -> None:
    with site.pilot("first") as first:
        until(site.attempts)
        site.kill()
        time.sleep(LEASE)
        site.let_go()
        until(lambda: '"event": "Exited"' in site.log("first"))
        time.sleep(1.0)
        assert site.stored() == []
        assert first.poll() is None
        site.start()
        code, said = ended(first)
    assert (code, said[0]["verdict"], said[-1]["pilot"]["verdicts"]) == (0, "succeeded", {"succeeded": 1})
    assert (site.stored(), site.results()) == (["1"], [(1, "succeeded")])


def test_who_was_replaced_meanwhile_is_fenced_writes_nothing_and_says_so(site: Site) -> None:
    """The other pilot reaches the queue's file; nobody else reaches the service."""
    with site.pilot("first") as first:
        until(site.attempts)
        site.kill()
        time.sleep(1.25 * LEASE)
        other = site.rig.serve()
        assert [each.get("verdict") for each in other.objects()] == ["succeeded", None], other
        assert first.poll() is None
        site.start()
        code, [job, last] = ended(first)
    assert (code, job["job_id"], job["attempt"], job["verdict"]) == (0, site.job, 1, "interrupted")
    assert (job["accepted"], job["fault"]["code"], job["fault"]["detail"]) == (
        False, "server.refused", "the attempt is no longer ours",
    )  # fmt: skip
    assert last["pilot"]["verdicts"] == {"fenced": 1}
    assert (site.stored(), site.results()) == (["2"], [(2, "succeeded")])
