"""Tokens and proxies in files: read when they change, refused where others can read them, never shown."""

import base64
import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.adapters.credentials_token import HIDDEN, RENEW_AGAIN_SECONDS, NoCredential, TokenFile, life_of
from pilot.adapters.credentials_x509 import ProxyFile, ends_of
from pilot.adapters.server_renewal import CLIENT, PATH, Renewal
from pilot.cli.exits import Exit, exit_of
from pilot.model.faults import Code
from pilot.ports import Passing, PortError
from pilot.wire.envelope import Reply
from tests.fakes.authority import Authority

SECRET = "canary-0b9e"


def jwt(begins: float, ends: float, name: str = "x") -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'iat': begins, 'exp': ends, 'sub': name})}.c2ln"


def written(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def refused(act: Callable[[], object]) -> PortError:
    with pytest.raises(PortError) as caught:
        act()
    assert SECRET not in repr(caught.value.fault)
    assert "\n" not in caught.value.fault.detail
    return caught.value


def test_a_token_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = written(tmp_path / "token", "one\n")
    token = TokenFile(file, "wlcg.pilot")
    assert token.headers() == {"Authorization": "Bearer one", "Origin": "wlcg.pilot"}
    os.replace(written(tmp_path / "next", "two"), file)
    assert token.headers()["Authorization"] == "Bearer two"
    assert token.certificate() == ""
    assert token.hide("one, two, three") == f"{HIDDEN}, {HIDDEN}, three"
    assert not token.reread()
    os.replace(written(tmp_path / "next", "three"), file)
    assert token.reread()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    problem = refused(TokenFile(written(tmp_path / "token", SECRET, mode)).headers)
    assert f"mode {mode:04o}" in problem.fault.detail
    assert f"chmod 600 {tmp_path / 'token'}" in problem.fault.detail
    assert exit_of(problem) is Exit.DENIED


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (f"{SECRET} and more", "holds no token"),
        (f"{SECRET}\nInjected: header", "holds no token"),
        (f"{SECRET}\x00", "holds no token"),
        (f"{SECRET}é", "holds no token"),
        (SECRET * 2000, "holds no token"),
        ("x" * 300_000, "is it the right file"),
    ],
)
def test_what_is_no_token(tmp_path: Path, text: str, says: str) -> None:
    problem = refused(TokenFile(written(tmp_path / "token", text)).headers)
    assert says in problem.fault.detail
    assert exit_of(problem) is Exit.DENIED


def test_files_that_are_none(tmp_path: Path) -> None:
    missing = refused(TokenFile(tmp_path / "none").headers)
    assert exit_of(missing) is Exit.CONFIGURATION
    assert f"token {tmp_path}/none: there is no such file" in missing.fault.detail
    folder = refused(TokenFile(tmp_path).headers)
    assert exit_of(folder) is Exit.DENIED
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no regular file" in refused(TokenFile(tmp_path / "pipe").headers).fault.detail


@pytest.mark.skipif(
    os.geteuid() == 0, reason="issue 3: root may read everything; run as an ordinary user in scripts/test"
)
def test_a_token_that_cannot_be_read(tmp_path: Path) -> None:
    problem = refused(TokenFile(written(tmp_path / "token", SECRET, 0)).headers)
    assert "Permission denied" in problem.fault.detail
    assert exit_of(problem) is Exit.DENIED


# --- renewal ---


class Server:
    """Counts, and gives what it is told to give."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = ""

    def __call__(self) -> str:
        self.asked += 1
        if not self.answer:
            raise Passing(Code.SERVER_UNREACHABLE, "away")
        return self.answer


def test_a_token_is_renewed_at_half_of_its_life(tmp_path: Path) -> None:
    now = [1000.0]
    file = written(tmp_path / "token", jwt(1000, 3000, "old"))
    token, server = TokenFile(file, wall=lambda: now[0]), Server()
    token.renew_with(server)
    old = token.headers()
    now[0] = 1999.0
    assert token.headers() == old
    assert server.asked == 0
    now[0] = 2000.0
    assert token.headers() == old  # the server is away: the old one holds still
    now[0] += RENEW_AGAIN_SECONDS - 1
    assert token.headers() == old
    assert server.asked == 1
    now[0] += 1
    server.answer = jwt(2060, 4060, "new")
    assert token.headers() == {"Authorization": f"Bearer {server.answer}"}
    assert token.ends() == 4060.0
    now[0] = 3000.0
    token.headers()
    assert server.asked == 2
    now[0] = 3061.0
    server.answer = "no life of its own"
    assert "holds" not in token.headers()["Authorization"]
    assert server.asked == 3


def test_the_file_goes_before_what_was_renewed(tmp_path: Path) -> None:
    file = written(tmp_path / "token", jwt(0.5, 10))
    token, server = TokenFile(file, wall=lambda: 20.0), Server()
    token.renew_with(server)
    server.answer = jwt(20, 40)
    assert server.answer in token.headers()["Authorization"]
    os.replace(written(tmp_path / "next", jwt(20, 60)), file)
    assert jwt(20, 60) in token.headers()["Authorization"]
    assert token.hide(server.answer) == HIDDEN


def test_a_token_without_a_life_is_never_renewed(tmp_path: Path) -> None:
    token, server = TokenFile(written(tmp_path / "token", "opaque")), Server()
    token.renew_with(server)
    token.headers()
    assert server.asked == 0
    assert token.ends() == math.inf


def test_no_request_waits_for_a_renewal(tmp_path: Path) -> None:
    token = TokenFile(written(tmp_path / "token", jwt(1, 10)), wall=lambda: 20.0)
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go.wait(10)
        return jwt(20, 40)

    token.renew_with(slow)
    renewing = threading.Thread(target=token.headers)
    renewing.start()
    assert begun.wait(10)
    began = time.monotonic()
    assert jwt(1, 10) in token.headers()["Authorization"]
    assert time.monotonic() - began < 1.0
    go.set()
    renewing.join(10)
    assert jwt(20, 40) in token.headers()["Authorization"]


class Line:
    """A line that answers one thing."""

    def __init__(self, reply: Reply) -> None:
        self.origin = "https://h"
        self.reply = reply
        self.asked: list[tuple[str, str, dict[str, object]]] = []

    def call(self, method: str, path: str, arguments: dict[str, object]) -> Reply:
        self.asked.append((method, path, arguments))
        return self.reply

    def close(self) -> None:
        """Nothing."""


def test_pandas_server_is_asked_with_the_key(tmp_path: Path) -> None:
    key = written(tmp_path / "key", "the-key\n")
    line = Line(Reply(True, "", {"user_proxy": "fresh"}))
    assert Renewal(line, key)() == "fresh"  # type: ignore[arg-type]
    assert line.asked == [("GET", PATH, {"client_name": CLIENT, "token_key": "the-key"})]


@pytest.mark.parametrize(
    "reply", [Reply(False, SECRET), Reply(True, "", None), Reply(True, "", {"user_proxy": 3}), Reply(True, "", {})]
)
def test_no_token_for_the_key(tmp_path: Path, reply: Reply) -> None:
    key = written(tmp_path / "key", SECRET)
    assert "gave no token" in refused(Renewal(Line(reply), key)).fault.detail  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c", "a.e30.c", "a.W10.c", "a.!!!.c", "a." + "W1" * 4000 + ".c", jwt(True, True), jwt(-1, 1e300)],
)
def test_what_says_nothing_of_its_life(text: str) -> None:
    assert life_of(text).ends == math.inf


# --- proxies ---


def test_a_proxy_needs_certificate_and_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good = ProxyFile(authority.issue("pilot").file)
    assert good.certificate() == str(tmp_path / "pair-1.pem")
    assert dict(good.headers()) == {}
    assert not good.reread()
    alone = written(tmp_path / "alone", authority.file.read_bytes())
    problem = refused(ProxyFile(alone).certificate)
    assert "holds no certificate with its key" in problem.fault.detail
    assert exit_of(problem) is Exit.DENIED
    assert exit_of(refused(ProxyFile(tmp_path / "none").certificate)) is Exit.CONFIGURATION
    alone.chmod(0o644)
    assert "others may read it" in refused(ProxyFile(alone).certificate).fault.detail


@pytest.mark.parametrize("body", [b"", b"AAAA", b"MIIB", b"!!!!", b"MIIC" * 100, b"MIQAAAAA"])
def test_certificates_that_are_none(body: bytes) -> None:
    assert list(ends_of(b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n")) == []


def test_a_proxy_ends_with_the_first_of_its_chain(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("pilot")
    assert len(list(ends_of(pair.file.read_bytes()))) == 2
    assert ProxyFile(pair.file).ends() == pair.certificate.not_valid_after_utc.timestamp()


def test_nobody(tmp_path: Path) -> None:
    nobody = NoCredential()
    assert (dict(nobody.headers()), nobody.certificate(), nobody.reread(), nobody.hide("x")) == ({}, "", False, "x")
