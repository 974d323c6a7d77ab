"""`pilot queue serve` as a process: set up, reached, told to end, told to read its keys again."""

import json
import os
import re
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

import psutil
import pytest
import requests
from cryptography import x509

from pilot.queue.service import certificates
from pilot.queue.service.call import Role
from pilot.queue.service.keys import KeyFolder, own_tokens

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
    assert list(lines) == ["server certificate", "certificate authority", "pilot token", "submitter token"]
    assert {"queue.site.example", "192.0.2.7"} <= set(lines["server certificate"].partition(", for ")[2].split())
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
    certified = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    own = {
        each.address.partition("%")[0]
        for some in psutil.net_if_addrs().values()
        for each in some
        if ":" not in each.address
    }
    assert {"127.0.0.1", "::1", "192.0.2.7"} | {each for each in own if each.count(".") == 3} <= certified


def test_setup_again_keeps_the_authority_and_the_tokens(ready: str, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    before = {name: (keys / name).read_bytes() for name in ("ca.pem", "token-key.pem", "server.pem")}
    assert pilot("queue", "serve", "--queue", ready, "--setup").returncode == 0
    after = {name: (keys / name).read_bytes() for name in before}
    assert [name for name in before if before[name] != after[name]] == ["server.pem"]


def test_setup_again_keeps_the_names_of_before_and_takes_no_bad_ones(ready: str, tmp_path: Path) -> None:
    for name in ("queue.site.example", "192.0.2.7"):
        assert pilot("queue", "serve", "--queue", ready, "--setup", "--name", name).returncode == 0
    certified = certificates.names_in((tmp_path / "queue-keys/server.pem").read_bytes())
    assert "queue.site.example" in certified.hosts
    assert "192.0.2.7" in certified.addresses
    for name in ("https://queue.site.example", "queue:25443", "a b", "", "-x.example", "x" * 64):
        done = pilot("queue", "serve", "--queue", ready, "--setup", "--name", name)
        assert (done.returncode, done.stderr.count("\n"), "--name" in done.stderr) == (78, 1, True), name


def test_users_whose_names_look_alike_have_token_files_of_their_own(ready: str) -> None:
    words = ("queue", "token", "--queue", ready, "--role", "submitter", "--user")
    names = ("ber ta/x", "ber_ta_x", "ber/ta x", "bert\N{LATIN SMALL LETTER A WITH DIAERESIS}")
    files = {pilot(*words, each).stdout.strip() for each in names}
    assert len(files) == len(names)


def test_others_of_the_machine_cannot_go_past_the_roles(ready: str, tmp_path: Path) -> None:
    """What a umask gave is taken back; what was given on purpose is refused, or meant by the operator."""
    path = tmp_path / "queue.db"
    path.chmod(0o644)
    served = Process(ready)
    call(served, tmp_path / "queue-keys", "claim", "pilot", offers=[], claims=[])
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("queue.db*")}
    assert {"queue.db", "queue.db-wal", "queue.db-shm"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert "chmod 600" in served.end()[1]
    path.chmod(0o660)
    refused = pilot("queue", "serve", "--queue", ready, "--listen", "localhost:0")
    assert (refused.returncode, "--shared-file" in refused.stderr, refused.stderr.count("\n")) == (78, True, 1)
    shared = Process(ready, "--shared-file")
    assert shared.end()[0] == 143
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def ending_in(keys: Path, days: float) -> None:
    """A server certificate of the site's authority that ends so soon."""
    authority = certificates.Pair((keys / "ca.pem").read_bytes(), (keys / "ca-key.pem").read_bytes())
    made = certificates.server_certificate(authority, certificates.Names(("localhost",), ("127.0.0.1",)), days)
    (keys / "server.pem").write_bytes(made.certificate)
    (keys / "server-key.pem").write_bytes(made.key)


def test_a_certificate_that_has_ended_is_refused_and_one_that_soon_will_is_named(ready: str, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    ending_in(keys, -0.01)
    done = pilot("queue", "serve", "--queue", ready, "--listen", "localhost:0")
    assert (done.returncode, "ended on" in done.stderr, "--setup" in done.stderr) == (78, True, True)
    assert done.stderr.count("\n") == 1
    ending_in(keys, 3)
    served = Process(ready)
    text = numbers(served, keys)
    until = float(re.findall(r"^pilot_queue_certificate_end_time_seconds (\S+)", text, re.MULTILINE)[0])
    assert until == pytest.approx(time.time() + 3 * 86400, abs=120)
    assert "server.pem ends on" in served.end()[1]


def numbers(served: Process, keys: Path) -> str:
    session = requests.Session()
    session.trust_env = False
    token = next(keys.glob("submitter-*.token")).read_text().strip()
    with session:
        return session.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {token}"},
                           verify=str(keys / "ca.pem"), timeout=30).text  # fmt: skip


def test_handshakes_that_fail_are_counted_and_told_once(served: Process, tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(ssl.SSLError), socket.create_connection(("localhost", served.port), 10) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")  # it does not know the authority
    end = time.monotonic() + 10
    while "pilot_queue_tls_failures_total 3.0" not in numbers(served, tmp_path / "queue-keys"):
        assert time.monotonic() < end, "they are not counted"
        time.sleep(0.1)
    assert served.end()[1].count("TLS handshakes that failed") == 1


def test_the_log_tells_when_it_began_and_ended_and_who_was_refused(served: Process, ready: str, tmp_path: Path) -> None:
    keys = tmp_path / "queue-keys"
    own = own_tokens(KeyFolder(keys))
    (keys / "submitter-old.token").write_text(own.mint(Role.SUBMITTER, "berta", -5))
    token = (keys / "submitter-old.token").read_text()
    reply = requests.post(f"{served.url}/api/v1/grid/find", json={}, headers={"Authorization": f"Bearer {token}"},
                          verify=str(keys / "ca.pem"), timeout=30)  # fmt: skip
    assert reply.status_code == 401
    lines = served.end()[1].splitlines()
    assert any(f"begins: {ready} at https://localhost:{served.port}" in each for each in lines)
    assert "ended by signal 15" in lines[-1]
    (refused,) = [each for each in lines if " 401 " in each]
    assert "says:berta" in refused
    assert re.search(r" (127\.0\.0\.1|::1) ", refused)
    assert token not in refused


def test_a_queue_whose_outputs_cannot_be_stored_is_not_made(tmp_path: Path) -> None:
    where = f"sqlite:{tmp_path / 'new.db'}"
    done = pilot("queue", "init", "--queue", where, "--output", "davs://dav.site.example/ml")
    assert (done.returncode, done.stderr.count("\n"), "file://" in done.stderr) == (64, 1, True)
    assert not (tmp_path / "new.db").exists()


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
    code, said = served.end()
    assert (code, unusual(said)) == (143, [])


def unusual(said: str) -> list[str]:
    """What the log has beside its first and last line, and the word on where outputs go."""
    usual = (" INFO begins: ", " INFO ended by signal ", " WARNING queue default: outputs and logs go to file://")
    lines = [each for each in said.splitlines() if not any(word in each for word in usual)]
    return [each for each in lines if "others could read it" not in each]


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
    assert (code, unusual(said)) == (143, [])
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
    code, said = served.end(signal.SIGINT)
    assert (code, unusual(said)) == (130, [])


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
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wrong = {
            ("--listen", f"127.0.0.1:{port}"): 78,
            ("--listen", "nowhere.invalid:1"): 78,
            ("--listen", "localhost:99999"): 78,
            ("--tls-cert", str(keys / "nothing.pem")): 64,
            ("--tls-cert", str(keys / "nothing.pem"), "--tls-key", str(keys / "server-key.pem")): 78,
            ("--tls-cert", str(broken), "--tls-key", str(keys / "server-key.pem")): 78,
            ("--tls-cert", str(keys / "ca.pem"), "--tls-key", str(keys / "server-key.pem")): 78,
            ("--issuer", "https://x"): 64,
            ("--issuer", "http://x.example", "--audience", "a", "--group", "pilot=/a"): 64,
            ("--issuer", "https://x", "--audience", "a", "--group", "pilot=/a", "--issuer-ca", "/nope"): 78,
            ("--issuer", "https://x", "--audience", "a", "--group", "pilot=/a", "--issuer-ca", str(broken)): 78,
            ("--audience", "a"): 64,
            ("--name", "queue.site.example"): 64,
            ("--keys", str(tmp_path / "none")): 78,
        }
        for words, code in wrong.items():
            done = pilot("queue", "serve", "--queue", ready, *words)
            assert (done.returncode, done.stderr.count("\n")) == (code, 1), (words, done.stderr)
    assert pilot("queue", "serve", "--queue", f"sqlite:{tmp_path / 'no.db'}").returncode == 69
    (keys / "token-key.pem").chmod(0o640)
    done = pilot("queue", "serve", "--queue", ready, "--listen", "localhost:0")
    assert (done.returncode, "chmod 600" in done.stderr) == (78, True)
