"""`pilot queue serve` as a process: set up, reached, told to end, told to read its keys again."""

import json
import os
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import requests
from cryptography import x509

TREE = Path(__file__).parents[2]


def pilot(*words: str, more: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilot", *words]
    environment = {**os.environ, "PYTHONPATH": str(TREE), **more}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


class Process:
    """The service, on a port that was free."""

    def __init__(self, url: str, *more: str, listen: str = "localhost:0") -> None:
        command = [sys.executable, "-m", "pilot", "queue", "serve", "--queue", url, "--listen", listen, *more]
        environment = {**os.environ, "PYTHONPATH": str(TREE)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 30)[0]
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2]) if self.url else 0

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = f"sqlite:{tmp_path / 'queue.db'}"
    assert pilot("queue", "init", "--queue", found).returncode == 0
    return found


@pytest.fixture
def ready(url: str) -> str:
    assert pilot("queue", "serve", "--queue", url, "--setup").returncode == 0
    return url


@pytest.fixture
def served(ready: str) -> Iterator[Process]:
    made = Process(ready)
    yield made
    if made.process.poll() is None:
        made.end()


def call(
    served: Process, keys: Path, verb: str, role: str, host: str = "localhost", **body: object
) -> requests.Response:
    token = next(keys.glob(f"{role}-*.token")).read_text().strip()
    session = requests.Session()
    session.trust_env = False
    where = f"https://{host}:{served.port}/api/v1/grid/{verb}"
    with session:
        return session.post(where, json=body, headers={"Authorization": f"Bearer {token}"},
                            verify=str(keys / "ca.pem"), timeout=30)  # fmt: skip


def test_setup_makes_what_a_site_needs_and_shows_no_secret(url: str, tmp_path: Path) -> None:
    done = pilot("queue", "serve", "--queue", url, "--setup", "--name", "queue.site.example", "--name", "192.0.2.7")
    keys = tmp_path / "queue-keys"
    lines = dict(each.split(": ", 1) for each in done.stdout.splitlines())
    assert list(lines) == ["certificate authority", "pilot token", "submitter token"]
    assert lines["certificate authority"] == str(keys / "ca.pem")
    secrets = [each.read_text() for each in keys.iterdir() if each.suffix == ".token" or each.name.endswith("-key.pem")]
    assert len(secrets) == 5
    assert not any(each.strip() in done.stdout + done.stderr for each in secrets)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in keys.iterdir()}
    assert {name for name, mode in modes.items() if mode != 0o600} == {"ca.pem", "server.pem"}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    server = x509.load_pem_x509_certificate((keys / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "queue.site.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1", "192.0.2.7"} <= {str(each) for each in names.get_values_for_type(x509.IPAddress)}


def test_setup_again_keeps_the_authority_and_the_tokens(ready: str, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    before = {name: (keys / name).read_bytes() for name in ("ca.pem", "token-key.pem", "server.pem")}
    assert pilot("queue", "serve", "--queue", ready, "--setup").returncode == 0
    after = {name: (keys / name).read_bytes() for name in before}
    assert [name for name in before if before[name] != after[name]] == ["server.pem"]


def test_tokens_are_minted_into_files(ready: str, tmp_path: Path) -> None:
    words = ("queue", "token", "--queue", ready, "--role", "operator", "--user", "../boss", "--lifetime", "1h")
    done = pilot(*words)
    path = Path(done.stdout.strip())
    assert path.parent == tmp_path / "queue-keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().count(".") == 2
    assert pilot(*words[:-1], "1s").returncode == 64
    assert pilot("queue", "token", "--queue", ready, "--role", "king", "--user", "x").returncode == 64


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_it_is_reached_by_every_name_of_loopback(ready: str, tmp_path: Path, host: str) -> None:
    served = Process(ready, listen="*:0")
    assert call(served, tmp_path / "queue-keys", "find", "submitter", host).json()["data"] == []
    assert served.end() == (143, "")


def test_who_looks_is_answered_when_it_is_told_to_end(served: Process, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    since = call(served, keys, "claim", "pilot", offers=[], claims=[]).json()["data"]["version"]
    answers: list[requests.Response] = []
    asked = {"since": since, "patience": 20}
    looker = threading.Thread(target=lambda: answers.append(call(served, keys, "changed", "pilot", **asked)))  # type: ignore[arg-type]
    looker.start()
    time.sleep(0.5)
    begun = time.monotonic()
    code, said = served.end()
    looker.join(10)
    assert (code, said) == (143, "")
    assert time.monotonic() - begun < 4
    assert answers[0].json()["data"] == {"changed": False, "version": since}


JOB = """
name: hello
command: [sh, -c, "echo hello; echo done > out.txt"]
outputs: [{name: out.txt}]
"""


def test_the_whole_way_of_the_guide(served: Process, tmp_path: Path) -> None:
    """A user adds, a pilot with nothing but URL, authority and token runs, the user looks."""
    keys = tmp_path / "queue-keys"
    (tmp_path / "job.yaml").write_text(JOB)
    common = {"PILOT_QUEUE": served.url, "PILOT_CA": str(keys / "ca.pem")}
    user = common | {"PILOT_TOKEN_FILE": str(next(keys.glob("submitter-*.token")))}
    other = common | {"PILOT_TOKEN_FILE": str(keys / "pilot-pilot.token"), "HOME": str(tmp_path)}
    assert pilot("queue", "add", str(tmp_path / "job.yaml"), more=user).returncode == 0
    done = pilot("run", "--runtime", "bare", "--idle-exit", "1s", "--state", str(tmp_path / "state"), more=other)
    assert done.returncode == 0, done.stderr
    row = json.loads(pilot("queue", "ls", "--format", "json", more=user).stdout)[0]
    assert (row["state"], row["verdict"]) == ("done", "succeeded")
    assert pilot("job", "logs", "hello", more=user).stdout == "hello\n"
    assert (tmp_path / "queue-outputs" / row["job_id"] / "1" / "out.txt").read_text() == "done\n"
    refused = pilot("queue", "ls", more=other)
    assert (refused.returncode, refused.stderr.count("\n")) == (77, 1)


def test_interrupt_ends_it_with_130(served: Process) -> None:
    assert served.end(signal.SIGINT) == (130, "")


def test_hang_up_reads_keys_and_certificate_again(served: Process, ready: str, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    before = ssl.get_server_certificate(("localhost", served.port))
    (keys / "token-key.pem").unlink()
    assert pilot("queue", "serve", "--queue", ready, "--setup").returncode == 0
    assert call(served, keys, "find", "submitter").status_code == 401, "the new token, the old key"
    served.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 5
    while call(served, keys, "find", "submitter").status_code != 200 and time.monotonic() < end:
        time.sleep(0.1)
    assert call(served, keys, "find", "submitter").status_code == 200
    assert ssl.get_server_certificate(("localhost", served.port)) != before
    (keys / "server-key.pem").chmod(0o644)
    served.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert call(served, keys, "find", "submitter").status_code == 200, "what is wrong is not taken"
    _, said = served.end()
    assert "keys and certificate stay as they were" in said


def test_plain_http_is_for_loopback_alone_and_only_when_asked_for(url: str) -> None:
    refused = pilot("queue", "serve", "--queue", url, "--insecure-loopback", "--listen", "*:0")
    assert (refused.returncode, "can be reached from outside" in refused.stderr) == (78, True)
    keyless = pilot("queue", "serve", "--queue", url, "--listen", "localhost:0")
    assert (keyless.returncode, "--setup" in keyless.stderr) == (78, True)
    served = Process(url, "--insecure-loopback", listen="127.0.0.1:0")
    assert served.url.startswith("http://127.0.0.1:")
    found = requests.post(f"{served.url}/api/v1/grid/find", json={}, timeout=10)
    assert found.json()["success"]
    assert served.end()[0] == 143


def test_what_is_wrong_ends_in_one_line(ready: str, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wrong = {
            ("--listen", f"127.0.0.1:{port}"): 78,
            ("--listen", "nowhere.invalid:1"): 78,
            ("--listen", "localhost:99999"): 78,
            ("--tls-cert", str(keys / "nothing.pem")): 78,
            ("--issuer", "https://x"): 64,
            ("--keys", str(tmp_path / "none")): 78,
        }
        for words, code in wrong.items():
            done = pilot("queue", "serve", "--queue", ready, *words)
            assert (done.returncode, done.stderr.count("\n")) == (code, 1), (words, done.stderr)
    assert pilot("queue", "serve", "--queue", f"sqlite:{tmp_path / 'no.db'}").returncode == 69
    (keys / "token-key.pem").chmod(0o640)
    done = pilot("queue", "serve", "--queue", ready, "--listen", "localhost:0")
    assert (done.returncode, "chmod 600" in done.stderr) == (78, True)
