"""The device flow against an issuer on a real socket: patience, refusals, nonsense, and what is kept afterwards."""

import json
import os
import ssl
import stat
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pilot.adapters.credentials_device import Client, Issuer, Tokens
from pilot.adapters.credentials_kept import KeptRenewal, keep, kept, renewed
from pilot.adapters.credentials_token import TokenFile
from pilot.model.faults import Code
from pilot.ports import Final, Passing, PortError
from tests.beds.device_issuer import CODE, DeviceIssuer

TLS = ssl.create_default_context()


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[DeviceIssuer]:
    made = DeviceIssuer(tmp_path)
    yield made
    made.close()


class Pauses:
    """Waits a hundredth of what it is asked to, and remembers it."""

    def __init__(self) -> None:
        self.all: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.all.append(seconds)
        threading.Event().wait(min(seconds / 100, 0.02))


def logged_in(issuer: DeviceIssuer, pause: Pauses) -> Tokens:
    made = Issuer(Client(issuer.url, "ml-grid-pilot"), TLS)
    return made.wait(made.invite(), pause)


def test_a_person_gets_a_token(issuer: DeviceIssuer) -> None:
    made = Issuer(Client(issuer.url, "ml-grid-pilot", "openid", "the-queue"), TLS)
    invitation = made.invite()
    assert (invitation.code, invitation.address) == (CODE, f"{issuer.url}/enter")
    tokens = made.wait(invitation, Pauses())
    assert (tokens.access.count("."), tokens.seconds) == (2, 3600.0)
    assert issuer.asked[0] == ("/device", {"client_id": "ml-grid-pilot", "scope": "openid", "audience": "the-queue"})
    again = made.renew(tokens.refresh)
    assert again.access != tokens.access
    with pytest.raises(PortError, match="holds no more"):
        made.renew(tokens.refresh)


def test_it_asks_no_faster_than_it_is_let(issuer: DeviceIssuer) -> None:
    issuer.slow_downs, issuer.after, issuer.interval, issuer.code_life = 2, 2, 5.0, 600.0
    pauses = Pauses()
    logged_in(issuer, pauses)
    assert pauses.all == [5.0, 10.0, 15.0, 15.0, 15.0]


def test_an_issuer_that_does_not_answer_is_asked_more_slowly(issuer: DeviceIssuer) -> None:
    issuer.failures, issuer.interval, issuer.code_life = 2, 5.0, 600.0
    pauses = Pauses()
    logged_in(issuer, pauses)
    assert all(later >= sooner for sooner, later in pairwise(pauses.all))
    assert pauses.all[2] == 15.0


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ("no", Code.CREDENTIAL_REFUSED, "denied in the browser"),
        ("expired_token", Code.CREDENTIAL_EXPIRED, "not entered in time"),
        ("weird\x1b[31m\nthing", Code.CREDENTIAL_REFUSED, "it refuses: weird"),
    ],
)
def test_a_refusal_is_one_line(issuer: DeviceIssuer, answer: str, code: Code, text: str) -> None:
    issuer.answer = answer
    with pytest.raises(Final, match=text) as refused:
        logged_in(issuer, Pauses())
    assert refused.value.fault.code is code
    assert refused.value.fault.detail.isprintable()


def test_a_person_who_never_comes_is_not_waited_for_for_ever(issuer: DeviceIssuer) -> None:
    issuer.answer, issuer.code_life, issuer.interval = "", 30.0, 5.0
    pauses = Pauses()
    with pytest.raises(Final, match="not entered in time"):
        logged_in(issuer, pauses)
    assert sum(pauses.all) == 30.0


def test_an_unknown_client_is_told_what_to_do(issuer: DeviceIssuer) -> None:
    with pytest.raises(Final, match="--client-id"):
        Issuer(Client(issuer.url, "stranger"), TLS).invite()


@pytest.mark.parametrize(
    ("path", "octets"),
    [
        ("/token", b"not json"), ("/token", b"[1]"), ("/token", b'{"access_token": 5}'), ("/token", b"[" * 100_000),
        ("/token", b'{"access_token": "with blank"}'), ("/token", b'{"access_token": "x", "token_type": "mac"}'),
        ("/token", b'{"access_token": "' + b"x" * 2_000_000 + b'"}'), ("/device", b"{}"),
        ("/device", b'{"device_code": "d", "user_code": "a\\u001b[2J", "verification_uri": "https://x"}'),
        ("/device", b'{"device_code": "d", "user_code": "a", "verification_uri": "javascript:alert(1)"}'),
        ("/.well-known/openid-configuration", b'{"issuer": "https://another"}'),
        ("/.well-known/openid-configuration", b"\xff\xfe"),
    ],
)  # fmt: skip
def test_nonsense_is_an_error_of_the_port(issuer: DeviceIssuer, path: str, octets: bytes) -> None:
    issuer.raw[path] = octets
    issuer.code_life = 1.0
    with pytest.raises(PortError) as refused:
        logged_in(issuer, Pauses())
    assert refused.value.fault.detail.startswith("issuer ")
    assert "\n" not in refused.value.fault.detail
    assert len(refused.value.fault.detail) < 500


@pytest.mark.parametrize("name", ["token_endpoint", "device_authorization_endpoint"])
@pytest.mark.parametrize("url", ["http://example.org/x", "file:///etc/passwd", "https://x y", "", 7])
def test_addresses_without_tls_are_not_asked(issuer: DeviceIssuer, name: str, url: object) -> None:
    issuer.discovery[name] = url
    with pytest.raises(Final, match="issuer"):
        logged_in(issuer, Pauses())


def test_an_issuer_without_tls_is_not_asked_at_all() -> None:
    with pytest.raises(Final, match="no https address"):
        Issuer(Client("http://issuer.example.org", "c"), TLS)


def test_nobody_there_is_a_passing_matter(tmp_path: Path) -> None:
    gone = DeviceIssuer(tmp_path)
    gone.close()
    with pytest.raises(Passing, match="cannot be reached"):
        Issuer(Client(gone.url, "c"), TLS)


# --- what is kept ---


def test_what_is_kept_is_its_owners_alone(issuer: DeviceIssuer, tmp_path: Path) -> None:
    place = tmp_path / "tokens/queue.example.org"
    before = os.umask(0)
    try:
        keep(place, Client(issuer.url, "ml-grid-pilot"), Tokens("a.b.c", "renew-0", 60.0), 1000.0)
    finally:
        os.umask(before)
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in place.parent.iterdir()} == {
        "queue.example.org": 0o600, "queue.example.org.login": 0o600,
    }  # fmt: skip
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert TokenFile(place).headers() == {"Authorization": "Bearer a.b.c"}
    login = kept(place)
    assert login is not None
    assert (login.renew_at, login.ends, login.refresh) == (1030.0, 1060.0, "renew-0")


def test_a_token_is_renewed_at_half_its_life_and_once(issuer: DeviceIssuer, tmp_path: Path) -> None:
    """Two processes find it old: the key is good for once, and both end with the same token."""
    place = tmp_path / "tokens/host"
    keep(place, Client(issuer.url, "ml-grid-pilot"), Tokens("old", "renew-0", 100.0), 0.0)
    tokens: list[str] = []

    def ask() -> None:
        tokens.append(KeptRenewal(place, lambda: TLS)())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert len(set(tokens)) == 1
    assert len(tokens) == 4
    assert len(issuer.at) == 1
    assert TokenFile(place).headers()["Authorization"] == f"Bearer {tokens[0]}"


def test_a_token_in_a_file_renews_itself(issuer: DeviceIssuer, tmp_path: Path) -> None:
    place = tmp_path / "tokens/host"
    issuer.token_life = 2.0
    tokens = logged_in(issuer, Pauses())
    keep(place, Client(issuer.url, "ml-grid-pilot"), tokens, 0.0)
    token = TokenFile(place)
    token.renew_with(KeptRenewal(place, lambda: TLS))
    first = token.headers()["Authorization"]
    threading.Event().wait(1.2)
    issuer.token_life = 3600.0
    assert token.headers()["Authorization"] != first
    assert place.read_text().strip() in token.headers()["Authorization"]


def test_a_login_that_holds_no_more_says_so(issuer: DeviceIssuer, tmp_path: Path) -> None:
    place = tmp_path / "tokens/host"
    issuer.used.add("renew-0")
    keep(place, Client(issuer.url, "ml-grid-pilot"), Tokens("old", "renew-0", 100.0), 0.0)
    with pytest.raises(Final, match="run pilot login"):
        renewed(place, lambda: TLS)
    assert place.read_text() == "old\n"
    keep(place, Client(issuer.url, "ml-grid-pilot"), Tokens("old", "", 100.0), 0.0)
    with pytest.raises(Final, match="no way to renew"):
        renewed(place, lambda: TLS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"client": 5}', json.dumps({"client": {"issuer": "x"}})])
def test_a_login_that_is_damaged_says_so(tmp_path: Path, text: str) -> None:
    place = tmp_path / "host"
    beside = place.with_name("host.login")
    beside.write_text(text)
    beside.chmod(0o600)
    with pytest.raises(Final, match=r"host\.login"):
        kept(place)
