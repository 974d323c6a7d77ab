"""The supervisor with real payloads: how they start, end, are stopped and swept, and what is written of them."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.supervisor import procs
from pilot.supervisor.client import Client
from pilot.supervisor.follow import Follower, whole
from tests.e2e.supervised import Rig, alive, record_of, until, wait, wait_lost


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.end()


@pytest.fixture
def client(rig: Rig) -> Client:
    return rig.launch()


@pytest.mark.parametrize("code", [0, 1, 255])
def test_an_exit_code_is_told_and_written(rig: Rig, client: Client, code: int) -> None:
    client.start(rig.shell("a", f"echo hello; echo oops >&2; exit {code}"))
    started = wait(client, "started", "a")
    record = record_of(client, "a")
    assert (record["exit_code"], record["signal"], record["gone"], record["stopped_by"]) == (code, None, True, "")
    assert json.loads(rig.file("a", "exit.json").read_text()) == record
    written = json.loads(rig.file("a", "started.json").read_text())
    assert (written["pid"], written["start_time"]) == (started.body["pid"], started.body["start_time"])
    assert written["session"] == written["pid"] == started.body["session"]
    assert written["boot_id"] == procs.boot_id()
    assert (rig.file("a", "out").read_text(), rig.file("a", "err").read_text()) == ("hello\n", "oops\n")
    assert (record["stdout_bytes"], record["stderr_bytes"], record["stdout_dropped_bytes"]) == (6, 5, 0)


def test_a_crash_is_a_signal_and_leaves_no_core(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "ulimit -c; kill -SEGV $$"))
    record = record_of(client)
    assert (record["exit_code"], record["signal"]) == (None, signal.SIGSEGV)
    assert rig.file("a", "out").read_text() == "0\n"


def test_usage_is_counted(rig: Rig, client: Client) -> None:
    script = "x = bytearray(80 << 20)\nfor i in range(3_000_000): pass\nopen('f', 'wb').write(x)"
    client.start(rig.python("a", script))
    record = record_of(client)
    assert record["max_rss_bytes"] >= 80 << 20
    assert 0 < record["user_seconds"] < 20
    assert record["seconds"] >= 0.05
    assert record["ended"] >= record["started"]
    assert record["io_write_bytes"] is None or record["io_write_bytes"] >= 0


def test_the_payload_gets_what_was_said_and_nothing_else(rig: Rig, client: Client) -> None:
    script = (
        "import os, signal; print(sorted(os.listdir('/proc/self/fd'))[:-1], dict(os.environ), os.getcwd(), "
        "[n for n in signal.valid_signals() if n not in (13, 25) and signal.getsignal(n) == signal.SIG_IGN], "
        "signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getsid(0) == os.getpgid(0) == os.getpid(), "
        "os.readlink('/proc/self/fd/0'))"
    )
    client.start(rig.python("a", script, env={"ONLY": "ä"}))
    assert record_of(client)["exit_code"] == 0
    said = rig.file("a", "out").read_text()
    where = rig.root / "a"
    # Python itself adds LC_CTYPE where no locale is given.
    assert said.replace(", 'LC_CTYPE': 'C.UTF-8'", "") == (
        f"['0', '1', '2'] {{'ONLY': 'ä'}} {where} [] set() True /dev/null\n"
    )


@pytest.mark.parametrize(
    ("fields", "number", "word"),
    [
        ({"argv": ("/no/such/program",)}, errno.ENOENT, "/no/such/program"),
        ({"argv": ("no-such-program",)}, errno.ENOENT, "no-such-program"),
        ({"argv": ("/etc/passwd",)}, errno.EACCES, "/etc/passwd"),
        ({"cwd": "/no/such/directory"}, errno.ENOENT, "/no/such/directory"),
        ({"stdout": "/no/such/log"}, errno.ENOENT, "/no/such/log"),
        ({"directory": "/no/such/place"}, errno.ENOENT, "/no/such/place"),
        ({"directory": "relative"}, errno.EINVAL, "directory: an absolute path"),
        ({"env": {"A=B": "c"}}, errno.EINVAL, "env: 'A=B'"),
        ({"argv": ("/bin/true", "x" * (3 << 20))}, errno.E2BIG, "/bin/true"),
    ],
)
def test_what_cannot_start_says_why(rig: Rig, client: Client, fields: dict, number: int, word: str) -> None:
    client.start(rig.payload("a", **{"argv": ("/bin/true",)} | fields))
    failed = wait(client, "failed", "a")
    assert failed.body["errno"] == number
    assert word in str(failed.body["message"])
    assert not rig.file("a", "started.json").exists()
    client.start(rig.payload("a", "/bin/true"))
    assert record_of(client, "a")["exit_code"] == 0


def test_an_id_is_started_once(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "sleep 0.2; echo once"))
    client.start(rig.shell("a", "echo twice"))
    refused = wait(client, "failed", "a")
    assert (refused.body["errno"], refused.body["duplicate"]) == (errno.EEXIST, True)
    assert record_of(client, "a")["exit_code"] == 0
    client.start(rig.shell("a", "echo thrice"))
    wait(client, "failed", "a")
    assert rig.file("a", "out").read_text() == "once\n"


def test_an_exit_is_kept_until_forgotten(rig: Rig, client: Client) -> None:
    client.start(rig.payload("a", "/bin/true"))
    record = record_of(client, "a")
    client.list()
    (held,) = wait(client, "payloads").body["payloads"]
    assert (held["id"], held["state"], held["record"]) == ("a", "exited", record)
    client.stop("a", 0)
    assert record_of(client, "a") == record
    client.forget("a")
    client.list()
    assert wait(client, "payloads").body["payloads"] == []
    client.stop("a", 0)
    assert wait(client, "unknown", "a").body["verb"] == "stop"


# ---- stopping and sweeping


def test_stop_is_term_first(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "trap 'echo saved; exit 7' TERM; echo ready; while :; do sleep 0.05; done"))
    until(lambda: rig.file("a", "out").exists() and rig.file("a", "out").read_text())
    client.stop("a", 10)
    record = record_of(client)
    assert (record["exit_code"], record["stopped_by"], record["gone"]) == (7, "stop", True)
    assert rig.file("a", "out").read_text() == "ready\nsaved\n"


def test_a_stop_that_overtakes_the_exec_is_not_lost(rig: Rig, client: Client) -> None:
    for number in range(20):
        client.start(rig.payload(f"a{number}", "/bin/sleep", "60"))
        client.stop(f"a{number}", 15)
        began = time.monotonic()
        assert record_of(client, f"a{number}")["signal"] == signal.SIGTERM
        assert time.monotonic() - began < 10


def test_kill_comes_after_the_grace(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    until(lambda: rig.file("a", "out").exists() and rig.file("a", "out").read_text())
    began = time.monotonic()
    client.stop("a", 0.5)
    record = record_of(client)
    assert record["signal"] == signal.SIGKILL
    assert 0.45 < time.monotonic() - began < 3


def test_a_second_stop_can_only_shorten(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    until(lambda: rig.file("a", "out").exists() and rig.file("a", "out").read_text())
    began = time.monotonic()
    client.stop("a", 60)
    client.stop("a", 0.2)
    client.stop("a", 60)
    assert record_of(client)["signal"] == signal.SIGKILL
    assert time.monotonic() - began < 5


def test_a_payload_that_stopped_itself_can_be_stopped(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "echo ready; kill -STOP $$; echo never"))
    pid = int(str(wait(client, "started").body["pid"]))
    until(lambda: procs.look(pid).state == "T")
    client.stop("a", 10)
    record = record_of(client)
    assert record["signal"] == signal.SIGTERM
    assert record["seconds"] < 8


def test_signal_reaches_the_group_or_the_main_process(rig: Rig, client: Client) -> None:
    script = (
        "trap 'echo main' USR1; (trap 'echo child; exit' USR1; echo c; while :; do sleep 0.05; done) & "
        "echo m; while :; do sleep 0.05; done"
    )
    for name, group, said in (("a", True, {"main", "child"}), ("b", False, {"main"})):
        out = rig.file(name, "out")
        client.start(rig.shell(name, script, group=group))
        until(lambda out=out: out.exists() and len(out.read_text()) == 4)
        client.signal(name, signal.SIGUSR1)
        until(lambda out=out, said=said: said <= set(out.read_text().split()))
        client.stop(name, 0)
        record_of(client, name)
        assert set(out.read_text().split()) - {"c", "m"} == said


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        {habit}
        time.sleep(600)
    os._exit(0)
os.wait()
{then}
"""


@pytest.mark.parametrize(
    "habit",
    [
        "pass",
        "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]",
        "[os.close(n) for n in (1, 2)]",
        "os.environ.clear(); os.execve('/bin/sleep', ['sleep', '600'], {})",
    ],
)
def test_a_daemon_does_not_outlive_its_payload(rig: Rig, client: Client, habit: str) -> None:
    client.start(rig.python("a", DAEMON.format(habit=habit, then="time.sleep(0.2)")))
    record = record_of(client)
    assert (record["exit_code"], record["gone"]) == (0, True)
    assert record["seconds"] < 5
    assert not alive(int(rig.file("a", "out").read_text()))


def test_a_daemon_does_not_outlive_a_stop(rig: Rig, client: Client) -> None:
    client.start(rig.python("a", DAEMON.format(habit="pass", then="time.sleep(600)")))
    until(lambda: rig.file("a", "out").exists() and rig.file("a", "out").read_text())
    client.stop("a", 5)
    assert record_of(client)["gone"] is True
    assert not alive(int(rig.file("a", "out").read_text()))


def test_a_process_that_runs_away_by_forking_is_caught(rig: Rig, client: Client) -> None:
    runaway = (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n end = time.time() + 20\n"
        " while time.time() < end:\n  if os.fork(): os._exit(0)\n os._exit(0)\ntime.sleep(0.3)"
    )
    client.start(rig.python("a", runaway))
    assert record_of(client)["gone"] is True


def test_a_payload_that_kills_its_group_kills_itself_alone(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "sleep 60 & kill -9 0"))
    record = record_of(client, "a")
    assert (record["signal"], record["gone"]) == (signal.SIGKILL, True)
    client.start(rig.payload("b", "/bin/true"))
    assert record_of(client, "b")["exit_code"] == 0


def test_a_payload_that_kills_everything_in_its_pid_namespace(rig: Rig, client: Client) -> None:
    unshare = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("issue 2: user namespaces are closed on this node")
    client.start(rig.payload("a", *unshare, "/bin/sh", "-c", "sleep 60 & sh -c 'kill -9 -1'; sleep 60"))
    until(lambda: rig.file("a", "started.json").exists())
    client.stop("a", 0.5)
    assert record_of(client)["gone"] is True


def test_output_of_a_daemon_delays_no_exit(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "setsid sh -c 'while :; do echo noise; done' & sleep 0.2; echo done >&2"))
    record = record_of(client)
    assert record["seconds"] < 5
    assert rig.file("a", "err").read_text() == "done\n"
    assert record["stdout_bytes"] > 0


# ---- output


def test_a_flood_is_capped_with_head_and_tail(rig: Rig, client: Client) -> None:
    size = 400 << 20
    script = f"echo first; head -c {size} /dev/zero; echo; echo last"
    client.start(rig.shell("a", script, head_bytes=1000, tail_bytes=500))
    shim = int(json.loads(until_text(rig.file("a", "started.json")))["shim_pid"])
    peak_kib = 0
    while (event := client.next(0.02)).kind != "exited":
        assert rig.file("a", "out").stat().st_size <= 1000
        with contextlib.suppress(OSError, StopIteration):
            peak_kib = max(peak_kib, resident_kib(shim))
    record = event.body["record"]
    total = size + 6 + 1 + 5
    assert (record["stdout_bytes"], record["stdout_dropped_bytes"]) == (total, total - 1500)
    text = rig.file("a", "out").read_bytes()
    assert text.startswith(b"first\n\0\0")
    assert text.endswith(b"\0\nlast\n")
    assert f"[pilot: {total - 1500} bytes of output dropped here]".encode() in text
    assert len(text) < 1600
    assert not rig.file("a", "out.tail").exists()
    assert 0 < peak_kib < 20_000


def until_text(path: Path) -> str:
    until(path.exists)
    return path.read_text()


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def test_the_log_can_be_followed_and_each_byte_comes_once(rig: Rig, client: Client) -> None:
    script = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done"
    payload = rig.shell("a", script, head_bytes=15, tail_bytes=1000)
    follower = Follower(payload.stdout)
    client.start(payload)
    seen = b""
    while client.next(0.03).kind != "exited":
        seen += follower.more()
    assert b"line 5" in seen  # what lies beyond the head was seen while the payload ran
    seen += follower.more()
    assert seen == whole(payload.stdout) == "".join(f"line {i}\n" for i in range(1, 7)).encode()


def test_both_streams_may_share_one_log(rig: Rig, client: Client) -> None:
    payload = rig.shell("a", "echo one; echo two >&2; echo three", stderr=str(rig.file("a", "out")))
    client.start(payload)
    assert record_of(client)["stdout_bytes"] == 14
    assert rig.file("a", "out").read_text() == "one\ntwo\nthree\n"


# ---- many


def test_many_at_once_and_one_after_another(rig: Rig, client: Client) -> None:
    for number in range(60):
        client.start(rig.shell(f"a{number}", f"exit {number}", grace=1))
    codes = {}
    begun = set()
    while len(codes) < 60:
        event = client.next(20)
        if event.kind == "started":
            begun.add(event.id)
            continue
        assert event.kind == "exited"
        assert event.id in begun
        codes[event.id] = event.body["record"]["exit_code"]
        client.forget(event.id)
    assert codes == {f"a{number}": number for number in range(60)}
    until(lambda: len(rig.ours()) == 1)
    descriptors = len(os.listdir(f"/proc/{client.pid}/fd"))
    for number in range(60):
        client.start(rig.payload(f"b{number}", "/bin/true"))
        wait(client, "started", f"b{number}")
        record_of(client, f"b{number}")
    until(lambda: len(os.listdir(f"/proc/{client.pid}/fd")) == descriptors)


def test_leave_stops_what_runs(rig: Rig, client: Client) -> None:
    client.start(rig.payload("a", "/bin/sleep", "60"))
    wait(client, "started")
    client.leave()
    assert record_of(client, "a")["stopped_by"] == "stop"
    wait_lost(client)
    assert json.loads(rig.file("a", "exit.json").read_text())["signal"] == signal.SIGTERM
    assert not (rig.state / "supervisor.sock").exists()


def test_leave_may_shorten_every_grace(rig: Rig, client: Client) -> None:
    client.start(rig.shell("a", "trap '' TERM; echo ready; while :; do sleep 0.05; done", grace=60))
    until(lambda: rig.file("a", "out").exists() and rig.file("a", "out").read_text())
    client.leave(grace=0.2)
    assert record_of(client, "a")["signal"] == signal.SIGKILL
