"""The line to a server, against a real socket: what is sent, whom it trusts, how it fails."""

import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.adapters.credentials_token import TokenFile
from pilot.adapters.credentials_x509 import ProxyFile
from pilot.adapters.server_answer import Oversized
from pilot.adapters.server_calls import discovered
from pilot.adapters.server_gate import CAP_SECONDS, PULSE_CAP_SECONDS, Gate, named_pause
from pilot.adapters.server_http import HttpLine, Limits, origin_of
from pilot.adapters.server_pool import Asked
from pilot.cli.exits import Exit, exit_of
from pilot.model.faults import Code
from pilot.ports import Final, Passing, PortError
from pilot.wire.calls import ALIVE
from tests.fakes.authority import DAY, Authority
from tests.fakes.proxy import Proxy
from tests.fakes.reached import QUICK, Reached
from tests.fakes.server import EXPIRED_TOKEN, GIB, REFUSE_TOKEN, FakeServer, Fault, busy, odd, reset_at

SECRET = "canary-5f0e1c77b2"


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reached]:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Reached(tmp_path)
    yield made
    made.close()


def failure(line: HttpLine, path: str = ALIVE, kind: type[PortError] = Passing) -> str:
    """One call that must fail: its one line of text."""
    with pytest.raises(PortError) as caught:
        line.call("POST", path, {})
    assert type(caught.value) is kind or isinstance(caught.value, Oversized), caught.value
    assert isinstance(caught.value, kind), caught.value
    assert "\n" not in caught.value.fault.detail
    assert len(caught.value.fault.detail) < 500
    return caught.value.fault.detail


def code_of(line: HttpLine) -> Code:
    with pytest.raises(PortError) as caught:
        line.call("POST", ALIVE, {})
    return caught.value.fault.code


# --- what is sent ---


def test_requests_are_as_pandas_server_wants_them(reached: Reached) -> None:
    line = reached.line(TokenFile(reached.token(SECRET + "\n"), "wlcg.pilot"))
    assert line.call("POST", ALIVE, {"n": 1, "text": "ä"}).success
    (seen,) = reached.server.seen
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["Accept"] == "application/json"
    assert seen.headers["User-Agent"].startswith("pilot/")
    assert seen.headers["Authorization"] == f"Bearer {SECRET}"
    assert seen.headers["Origin"] == "wlcg.pilot"
    assert "Content-Encoding" not in seen.headers
    assert json.loads(seen.body) == {"n": 1, "text": "ä"}


def test_large_bodies_are_packed_and_arguments_of_a_get_stand_in_the_query(reached: Reached) -> None:
    line = reached.line()
    line.call("POST", ALIVE, {"text": "x" * 5000})
    line.call("GET", ALIVE, {"job_ids": [1, 2], "a": "b c&d"})
    posted, got = reached.server.seen
    assert posted.headers["Content-Encoding"] == "gzip"
    assert int(posted.headers["Content-Length"]) < 300
    assert json.loads(posted.body) == {"text": "x" * 5000}
    assert got.query == {"job_ids": ["1", "2"], "a": ["b c&d"]}
    assert got.method == "GET"


def test_connections_are_used_again(reached: Reached) -> None:
    line = reached.line()
    began = time.monotonic()
    for _ in range(50):
        line.call("POST", ALIVE, {})
    assert time.monotonic() - began < 2.0  # a handshake takes about 50 ms here


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(reached: Reached) -> None:
    line = reached.line()
    for _ in range(3):
        assert line.call("POST", ALIVE, {}).success
        reached.server.stop()
        reached.server.start()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_kinds_of_addresses(tmp_path: Path, host: str) -> None:
    reached = Reached(tmp_path, host)
    assert discovered(reached.line())
    assert reached.server.url.startswith("https://[::1]:" if host == "::1" else "https://127.0.0.1:")
    reached.close()


def test_cookies_and_netrc_are_not_used(reached: Reached, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.touch(mode=0o600)
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    line = reached.line(TokenFile(reached.token(SECRET)))
    reached.server.plan.add(odd(b'{"success": true}', Set_Cookie="a=b"))
    line.call("POST", ALIVE, {})
    line.call("POST", ALIVE, {})
    assert [each.headers["Authorization"] for each in reached.server.seen] == [f"Bearer {SECRET}"] * 2
    assert not any("Cookie" in each.headers for each in reached.server.seen)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://host", "https://host"),
        ("https://host:25443/", "https://host:25443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_urls_of_servers(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["https://", "https://h/path", "https://h:port", "http://elsewhere", "ftp://h", f"https://me:{SECRET}@h",
            "https://h?x=1", "https://[::1", "https://h:99999"]
)  # fmt: skip
def test_urls_of_no_server(url: str) -> None:
    with pytest.raises(Final) as caught:
        origin_of(url)
    assert exit_of(caught.value) is Exit.CONFIGURATION
    assert SECRET not in caught.value.fault.detail


# --- trust ---


def test_a_hashed_directory_is_trusted_by_path_and_by_variable(reached: Reached) -> None:
    place = str(reached.authority.hashed_directory())
    assert discovered(reached.line(ca=place))
    assert discovered(reached.line(ca="", environment={"X509_CERT_DIR": place}))


def test_nobody_is_trusted_who_was_not_named(reached: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(reached.authority.file))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(reached.authority.file))
    other = Authority(reached.folder, "Other CA")
    for line in (reached.line(ca=""), reached.line(ca=str(other.file)), reached.line(ca=str(other.hashed_directory()))):
        assert "certificate is not to be trusted" in failure(line)
    assert reached.server.seen == []


BAD = {
    "expired": "expired",
    "not-yet": "not yet valid",
    "wrong-host": "mismatch",
    "wrong-address": "mismatch",
    "self-signed": "self-signed",
    "unknown-authority": "self-signed certificate in certificate chain",
}


HELPS = {
    "expired": "who runs the server must renew it",
    "not-yet": "correct this machine's clock",
    "wrong-host": "use an address that stands in it",
    "wrong-address": "use an address that stands in it",
}


def test_a_directory_without_hashed_names_is_named_with_what_helps(reached: Reached) -> None:
    place = reached.folder / "authorities"
    place.mkdir()
    (place / "ca.pem").write_bytes(reached.authority.file.read_bytes())
    said = failure(reached.line(ca=str(place)), kind=Final)
    assert f"key `ca` (PILOT_CA) {place}: no file in it has a hashed name" in said
    assert f"openssl rehash {place}" in said
    said = failure(reached.line(ca="", environment={"X509_CERT_DIR": str(place)}), kind=Final)
    assert f"X509_CERT_DIR {place}: no file in it has a hashed name" in said


def test_a_certificate_of_another_name(reached: Reached) -> None:
    reached.server.use(reached.authority.issue("elsewhere.example").file)
    url = reached.server.url.replace("127.0.0.1", "localhost")
    line = HttpLine(url, TokenFile(reached.token(SECRET)), Gate(), str(reached.authority.file), environment={})
    assert "use a name that stands in it" in failure(line)


def test_plain_http_to_a_port_with_tls_says_so(reached: Reached) -> None:
    url = reached.server.url.replace("https://", "http://")
    line = HttpLine(url, TokenFile(reached.token(SECRET)), Gate(), environment={})
    assert "write https://" in failure(line)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_gets_no_word_from_us(reached: Reached, kind: str) -> None:
    authority = reached.authority
    pair = {
        "expired": lambda: authority.issue(life=(-3 * DAY, -DAY)),
        "not-yet": lambda: authority.issue(life=(DAY, 3 * DAY)),
        "wrong-host": lambda: authority.issue("elsewhere.example"),
        "wrong-address": lambda: authority.issue("127.0.0.2"),
        "self-signed": authority.self_signed,
        "unknown-authority": lambda: Authority(reached.folder, "Other CA").issue(),
    }[kind]()
    reached.server.use(pair.file)
    line = reached.line(TokenFile(reached.token(SECRET)))
    said = failure(line)
    assert BAD[kind] in said.lower()
    assert reached.server.url in said
    assert HELPS.get(kind, "name its authority with the key `ca` or PILOT_CA") in said
    assert reached.server.seen == []
    with pytest.raises(PortError) as caught:
        line.call("POST", ALIVE, {})
    assert exit_of(caught.value) is Exit.UNAVAILABLE


def test_a_server_without_tls_under_https_is_told_apart(reached: Reached) -> None:
    url = reached.server.url
    reached.server.use(None)
    line = HttpLine(url, TokenFile(reached.token(SECRET)), Gate(), str(reached.authority.file), environment={})
    assert "speaks no TLS at that port" in failure(line)
    assert reached.server.seen == []


@pytest.mark.filterwarnings("ignore:ssl.OP_NO")
def test_old_tls_is_not_spoken(reached: Reached) -> None:
    reached.server.old_tls = True
    reached.server.use(reached.authority.issue().file)
    assert "no TLS connection" in failure(reached.line())
    assert reached.server.seen == []


@pytest.mark.parametrize(
    ("ca", "environment", "says"),
    [
        ("/nowhere/ca.pem", {}, "/nowhere/ca.pem: there is no such file"),
        (__file__, {}, "holds no certificate"),
        ("", {"X509_CERT_DIR": "/nowhere"}, "X509_CERT_DIR /nowhere: is no directory"),
    ],
)
def test_trust_that_is_not_there(reached: Reached, ca: str, environment: dict[str, str], says: str) -> None:
    with pytest.raises(Final, match=says) as caught:
        reached.line(ca=ca, environment=environment).call("POST", ALIVE, {})
    assert exit_of(caught.value) is Exit.CONFIGURATION


# --- who we are ---


def test_a_proxy_is_shown_and_a_renewed_one_is_taken_up(reached: Reached) -> None:
    mine = reached.authority.issue("pilot", subject="robot one")
    reached.server.use(reached.authority.issue().file, clients=reached.authority.file)
    file = reached.folder / "proxy"
    os.replace(mine.file, file)
    line = reached.line(ProxyFile(file))
    line.call("POST", ALIVE, {})
    os.replace(reached.authority.issue("pilot", subject="robot two").file, file)
    line.call("POST", ALIVE, {})
    assert [each.peer for each in reached.server.seen] == ["robot one", "robot two"]


def test_a_server_that_wants_a_certificate_says_no_to_nobody(reached: Reached) -> None:
    reached.server.use(reached.authority.issue().file, clients=reached.authority.file)
    said = failure(reached.line())
    assert "certificate" in said or "cut" in said
    assert reached.server.seen == []


def test_an_expired_proxy_is_refused_by_the_server_in_one_line(reached: Reached) -> None:
    old = reached.authority.issue("pilot", life=(-3 * DAY, -DAY))
    reached.server.use(reached.authority.issue().file, clients=reached.authority.file)
    said = failure(reached.line(ProxyFile(old.file)))
    assert "expired" in said or "certificate" in said or "cut" in said
    assert ProxyFile(old.file).ends() < time.time()


def test_when_a_proxy_ends(reached: Reached) -> None:
    pair = reached.authority.issue("pilot", life=(-DAY, datetime.timedelta(hours=7)))
    assert ProxyFile(pair.file).ends() == pytest.approx(time.time() + 7 * 3600, abs=60)


def test_a_token_that_was_renewed_is_read_again_once(reached: Reached) -> None:
    reached.server.tokens = {"new"}
    file = reached.token("old")
    line = reached.line(TokenFile(file))
    assert line.call  # not yet used
    assert code_of(line) is Code.CREDENTIAL_REFUSED
    assert len(reached.server.seen) == 1  # the file is the same: asking again would be no use
    reached.token("new")
    assert line.call("POST", ALIVE, {}).success
    reached.server.tokens = {"newer"}
    reached.server.plan.add(REFUSE_TOKEN, times=2)
    assert code_of(line) is Code.CREDENTIAL_REFUSED


def test_a_token_replaced_between_reading_and_refusal_is_tried_at_once(reached: Reached) -> None:
    reached.server.tokens = {"new"}

    class Late(TokenFile):
        def reread(self) -> bool:
            reached.token("new")
            return super().reread()

    assert reached.line(Late(reached.token("old"))).call("POST", ALIVE, {}).success
    assert [each.headers["Authorization"] for each in reached.server.seen] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (EXPIRED_TOKEN, Code.CREDENTIAL_EXPIRED, "Signature has expired; renew the credential"),
        (REFUSE_TOKEN, Code.CREDENTIAL_REFUSED, "Invalid token; check the token"),
        (odd(b'{"success": false, "message": "no such role"}', 401), Code.CREDENTIAL_REFUSED, "no such role"),
    ],
)
def test_refused_credentials_end_a_command_with_77(reached: Reached, fault: Fault, code: Code, says: str) -> None:
    reached.server.plan.add(fault)
    with pytest.raises(Passing, match=says) as caught:
        reached.line(TokenFile(reached.token(SECRET))).call("POST", ALIVE, {})
    assert (caught.value.fault.code, exit_of(caught.value)) == (code, Exit.DENIED)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 422, 500, 503])
def test_a_token_that_the_server_echoes_shows_nowhere(reached: Reached, status: int) -> None:
    reached.server.plan.add(odd(f"<h1>Bearer {SECRET}</h1> what is {SECRET}?".encode(), status))
    with pytest.raises(PortError) as caught:
        reached.line(TokenFile(reached.token(SECRET))).call("POST", ALIVE, {})
    assert SECRET not in repr(caught.value.fault) + str(caught.value)
    assert caught.value.__cause__ is None


# --- proxies on the way ---


def test_the_environments_proxy_is_honoured(reached: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:{SECRET}@127.0.0.1:{proxy.port}")
        line = reached.line(TokenFile(reached.token("t0ken")))
        assert line.call("POST", ALIVE, {}).success
        assert proxy.asked == [reached.server.url.removeprefix("https://")]
        assert "t0ken" not in "".join(proxy.said)
        assert "Proxy-Authorization" in proxy.said[0]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert reached.line().call("POST", ALIVE, {}).success
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("status", [403, 407, 0])
def test_a_proxy_that_does_not_help_is_named(reached: Reached, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with Proxy(refuses=status) as proxy:
        port = proxy.port
        monkeypatch.setenv("https_proxy", f"http://me:{SECRET}@127.0.0.1:{port}")
        if status:
            said = failure(reached.line())
            assert str(status) in said
    if not status:
        said = failure(reached.line())
    assert f"through http://127.0.0.1:{port}" in said
    assert SECRET not in said
    assert reached.server.seen == []


def test_the_server_is_verified_behind_a_proxy_too(reached: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        reached.server.use(reached.authority.self_signed().file)
        assert "certificate is not to be trusted" in failure(reached.line())
    assert reached.server.seen == []


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(reached: Reached, status: int) -> None:
    with FakeServer(reached.path, pair=reached.authority.issue().file) as other:
        reached.server.plan.add(odd(b"", status, Location=f"{other.url}/api/v1/system/is_alive"))
        said = failure(reached.line(TokenFile(reached.token(SECRET))), kind=Final)
        assert other.url in said
        assert other.seen == []
    assert len(reached.server.seen) == 1


# --- busy servers ---


class Hand:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_server_is_left_alone_for_as_long_as_it_says(reached: Reached, status: int) -> None:
    hand = Hand()
    gate = Gate(hand)
    line, pulse = reached.line(gate=gate), reached.line(limits=Limits(gate=PULSE_CAP_SECONDS), gate=gate)
    reached.server.plan.add(busy(status, "120"))
    assert str(status) in failure(line)
    for each in (line, pulse):
        assert "wants no call for" in failure(each)
    assert len(reached.server.seen) == 1
    hand.now += PULSE_CAP_SECONDS + 1
    assert pulse.call("POST", ALIVE, {}).success  # a lease is worth a question
    assert "for 109 s" in failure(line)
    hand.now += 109.1
    assert line.call("POST", ALIVE, {}).success
    assert len(reached.server.seen) == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "86400"}, CAP_SECONDS),
        ({"Retry-After": "9" * 5000}, CAP_SECONDS),
        ({"Retry-After": "-5"}, 1.0),
        ({"Retry-After": "soon"}, 1.0),
        ({}, 1.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT", "Date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 20 Nov 2026 11:00:00 GMT", "Date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 50.0),
    ],
)
def test_how_long_a_server_is_busy(headers: dict[str, str], seconds: float) -> None:
    assert named_pause(headers, wall=lambda: 50.0) == seconds


# --- answers that are none ---


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (odd(b"<html><head><title>x</title></head><body>Bad\n Gateway</body></html>", 502), Passing, "502 Bad Gateway"),
        (odd(b"no Traceback (most recent call last)\n File x", 500), Passing, "500 Internal Server Error: no"),
        (odd(b"", 504), Passing, "504"),
        (odd(b"nothing here", 404), Final, "is it a PanDA server"),
        (odd(b"no", 413), Final, "413"),
        (odd(b""), Passing, "is it a PanDA server"),
        (odd(b"{'success': True}"), Passing, "no JSON"),
        (odd(b"\x00\xff\xfe"), Passing, "no JSON"),
        (odd(b"[" * 100_000), Passing, "more than"),
        (odd(b"[" * 5000), Passing, "nested"),
        (odd(b'{"success": "yes"}'), Passing, "no envelope"),
        (odd(b"[1, 2]"), Passing, "no envelope"),
        (odd(b'{"success": true, "message": 3}'), Passing, "message"),
        (odd(b"\x1f\x8b\x08 no gzip", Content_Encoding="gzip"), Passing, "broke"),
        (odd(b"{}", Content_Encoding="br"), Passing, "was not asked for"),
        (odd(b'{"success": true}', 299), Passing, ""),
    ],
)  # fmt: skip
def test_answers_that_make_no_sense(reached: Reached, fault: Fault, kind: type[PortError], says: str) -> None:
    reached.server.plan.add(fault)
    if fault.status == 299:
        assert reached.line().call("POST", ALIVE, {}).success
        return
    told = failure(reached.line(), kind=kind)
    assert says in told
    assert "Traceback" not in told
    assert len(reached.server.seen) == 1


def test_an_endless_answer_is_cut_off_early(reached: Reached) -> None:
    line = reached.line()
    reached.server.plan.add(Fault(huge=2 * GIB))
    began = time.monotonic()
    with pytest.raises(Passing, match="more than 1000000 bytes: cut off"):
        line.reply(Asked("POST", ALIVE, body=b"{}", cap_bytes=1_000_000))
    assert time.monotonic() - began < 5.0
    assert line.call("POST", ALIVE, {}).success


def test_a_bomb_is_cut_off_early(reached: Reached) -> None:
    reached.server.plan.add(Fault(bomb=256 << 20))
    with pytest.raises(Passing, match="more than 1000000 bytes: cut off"):
        reached.line().reply(Asked("POST", ALIVE, body=b"{}", cap_bytes=1_000_000))


def test_the_usual_cap_holds_for_every_call(reached: Reached) -> None:
    reached.server.plan.add(Fault(huge=2 * GIB))
    assert "more than 4194304 bytes: cut off" in failure(reached.line())


# --- no answers ---


@pytest.mark.parametrize(
    ("fault", "tls"),
    [
        (Fault(hangs=True), True),
        (Fault(hangs=True), False),
        (Fault(trickle=0.05, body=b'{"success": true}'), True),
        (Fault(trickle=0.01, body=b'{"success": true, "message": "' + b"x" * 3000), False),
    ],
)
def test_an_answer_that_does_not_come_in_time_is_given_up(tmp_path: Path, fault: Fault, tls: bool) -> None:
    reached = Reached(tmp_path, tls=tls)
    reached.server.plan.add(fault)
    began = time.monotonic()
    assert "no answer within 0.5 s" in failure(reached.line(limits=QUICK))
    assert time.monotonic() - began < 2.0
    reached.server.released.set()
    assert reached.line().call("POST", ALIVE, {}).success
    reached.close()


def test_a_port_where_nobody_listens(reached: Reached) -> None:
    reached.server.stop()
    said = failure(reached.line())
    assert f"{reached.server.url}{ALIVE}: connection refused; is the server running" in said


def test_a_host_that_there_is_not() -> None:
    line = HttpLine("https://no-such-host.invalid", TokenFile(Path("/nowhere")), Gate(), environment={})
    with pytest.raises(Final, match="token /nowhere: there is no such file"):
        line.call("POST", ALIVE, {})


@pytest.mark.parametrize("tls", [True, False])
def test_a_connection_cut_at_any_byte(tmp_path: Path, tls: bool) -> None:
    reached = Reached(tmp_path, tls=tls)
    line = reached.line()
    length = 60 + len(reached.server.queue.alive()[1])
    for cut in [*range(40), *range(40, length, 23), length - 1]:
        reached.server.plan.add(reset_at(cut))
        said = failure(line)
        assert "cut" in said or "broke" in said or "no JSON" in said, said
    assert line.call("POST", ALIVE, {}).success
    reached.close()


def test_a_shut_line_can_be_used_again(reached: Reached) -> None:
    line = reached.line()
    for _ in range(2):
        assert line.call("POST", ALIVE, {}).success
        line.close()
        line.close()
