"""What a served queue does with bodies and headers that nobody of good will sends."""

import contextlib
import gzip
import hashlib
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot.model.files import CodePack
from pilot.model.plain import to_plain
from pilot.queue.service import body, protocol
from pilot.queue.service.call import Role
from tests.beds.served import Raw, Served, new_queue
from tests.contracts.server_beds import job, offer

RENEW, ADD, FIND = "/api/v1/grid/renew", "/api/v1/grid/add", "/api/v1/grid/find"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(new_queue(tmp_path_factory.mktemp("served")))
    yield made
    made.close()


@pytest.fixture
def pilot(served: Served) -> Iterator[Raw]:
    made = Raw(served, served.token(Role.PILOT, "p").read_text().strip())
    yield made
    made.close()


@pytest.fixture
def user(served: Served) -> Iterator[Raw]:
    made = Raw(served, served.token(Role.SUBMITTER, "anna").read_text().strip())
    yield made
    made.close()


BEAT = {"job_id": "a", "attempt": 1, "phase": "running"}
WRONG: list[tuple[object, str]] = [
    (b"{", "no JSON"),
    (b"[]", "no JSON object"),
    (b"\xff\xfe", "no JSON"),
    (b'{"beats": [], "beats": []}', "twice"),
    (b'{"beats": [' + b"[" * 100 + b"]" * 100 + b"]}", "deep"),
    (b'{"beats": ' + b"[" * 100_000 + b"}", "JSON|deep"),
    (b'{"beats": NaN}', "NaN"),
    (b'{"beats": [' + b"9" * 5000 + b"]}", "too long"),
    ({}, "missing field 'beats'"),
    ({"beats": [], "more": 1}, "unknown field 'more'"),
    ({"beats": {}}, "expected a list"),
    ({"beats": [{**BEAT, "attempt": "1"}]}, "attempt: expected int"),
    ({"beats": [{**BEAT, "attempt": True}]}, "attempt: expected int"),
    ({"beats": [{**BEAT, "secret": 1}]}, "unknown field 'secret'"),
    ({"beats": [{**BEAT, "attempt": 1 << 62, "usage": {"memory_peak_bytes": 0.5}}]}, "expected int"),
    ({"beats": [{**BEAT, "attempt": 9_999_999_999_999_999_999}]}, "too large"),
    ({"beats": [], "queue": "nowhere"}, "no queue named 'nowhere'"),
    ({"beats": [BEAT] * 1001}, "at most 1000"),
]


@pytest.mark.parametrize(("sent", "said"), WRONG)
def test_what_is_wrong_is_told_in_one_line(pilot: Raw, sent: object, said: str) -> None:
    reply = pilot.post(RENEW, sent)
    found = reply.json()
    assert 400 <= reply.status_code < 500, reply.text
    assert found["success"] is False
    assert any(each in found["message"] for each in said.split("|")), found["message"]
    assert "\n" not in found["message"]
    assert len(found["message"]) <= 1000
    assert found["data"]["kind"] == "final"


def test_a_bomb_is_cut_off(pilot: Raw) -> None:
    bomb = gzip.compress(b" " * (200 << 20))
    assert len(bomb) < 1 << 20
    reply = pilot.post(RENEW, bomb, **{"Content-Encoding": "gzip"})
    assert (reply.status_code, "unpacks to more than" in reply.text) == (413, True)


def test_packed_bodies_are_read(pilot: Raw) -> None:
    packed = gzip.compress(json.dumps({"beats": [BEAT]}).encode())
    assert pilot.post(RENEW, packed, **{"Content-Encoding": "gzip"}).json()["data"][0]["ours"] is False
    for sent, coding in ((packed[:-6], "gzip"), (packed + packed, "gzip"), (b"{}", "gzip"), (b"{}", "br")):
        assert pilot.post(RENEW, sent, **{"Content-Encoding": coding}).status_code in (415, 422)


def test_a_body_that_is_too_large_is_refused_before_it_is_here(user: Raw) -> None:
    assert user.post(FIND, b" " * (2 << 20)).status_code == 413


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": ""}, "no name"),
        ({"name": "x" * 300}, "too long"),
        ({"name": "a\nb"}, "not printable"),
        ({"command": []}, "no command"),
        ({"needs": []}, "needs"),
        ({"attempts": 0}, "attempts"),
        ({"priority": 1 << 40}, "too large"),
        ({"requirements": "1 +"}, "requirements"),
    ],
)
def test_a_job_that_no_file_could_describe_is_refused(user: Raw, more: dict[str, object], said: str) -> None:
    spec = {**to_plain(job("a").spec), **more}  # type: ignore[dict-item]
    reply = user.post(ADD, {"jobs": [{"spec": spec}]})
    assert (reply.status_code, said in reply.json()["message"]) == (422, True), reply.text


def test_an_offer_that_is_not_in_the_list_is_refused(pilot: Raw) -> None:
    asked = {"offers": [to_plain(offer())], "claims": [["c", 1]]}
    assert "no offer number 1" in pilot.post("/api/v1/grid/claim", asked).text
    assert pilot.post("/api/v1/grid/claim", {**asked, "claims": [["c", -1]]}).status_code == 422


def test_one_callers_nonsense_is_not_the_others_trouble(served: Served, pilot: Raw) -> None:
    """Beats of a moment are one transaction: one that cannot be written must not undo the rest."""
    import threading

    answers: list[int] = []

    def ask(attempt: int) -> None:
        one = Raw(served, served.token(Role.PILOT, f"p{attempt}").read_text().strip())
        answers.append(one.post(RENEW, {"beats": [{**BEAT, "attempt": attempt}]}).status_code)
        one.close()

    crowd = [threading.Thread(target=ask, args=(each,)) for each in (1, 9_999_999_999_999_999_999, 2, 3)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert sorted(answers) == [200, 200, 200, 422]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.fixed_dictionaries({}, optional={"beats": JSON, "queue": JSON, "reports": JSON}), verb=st.sampled_from(
    ["renew", "claim", "report", "changed", "register", "give_back", "adopt"]))  # fmt: skip
def test_whatever_is_sent_is_answered_in_the_envelope(pilot: Raw, found: dict[str, object], verb: str) -> None:
    reply = pilot.post(f"/api/v1/grid/{verb}", {**found, "patience": 0})
    assert reply.status_code < 500, reply.text
    assert set(reply.json()) == {"success", "message", "data"}


# --- by hand, on the socket ---


def connected(served: Served) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(served.keys.ca))
    port = int(served.url.rpartition(":")[2])
    return context.wrap_socket(socket.create_connection(("localhost", port), 10), server_hostname="localhost")


def ended_after(line: ssl.SSLSocket, cap: float) -> float:
    """How long the server keeps the connection open."""
    begun = time.monotonic()
    line.settimeout(cap)
    try:
        while line.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return time.monotonic() - begun


def test_headers_that_never_end_end_the_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    with connected(served) as line:
        line.sendall(b"POST /api/v1/grid/find HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert ended_after(line, 5) < 3
    with connected(served) as line:  # and one that never says a word
        assert ended_after(line, 5) < 3


def test_headers_without_end_end_the_connection(served: Served) -> None:
    with connected(served) as line:
        line.settimeout(10)
        line.sendall(b"POST /api/v1/grid/find HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            line.sendall(b"X-More: and more\r\n" * 5_000_000)


def test_a_body_that_dawdles_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "ARRIVAL_SECONDS", 0.3)
    monkeypatch.setattr(body, "BYTES_PER_SECOND", 1 << 40)
    token = served.token(Role.SUBMITTER, "anna").read_text().strip()
    with connected(served) as line:
        line.settimeout(10)
        head = f"POST {FIND} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n"
        line.sendall(head.encode() + b"{")
        assert line.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_nobody_reads_is_given_up(served: Served, user: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READING_SECONDS", 0.3)
    data = os.urandom(15 << 20)
    pack = CodePack(hashlib.sha256(data).hexdigest(), len(data))
    where = f"/api/v1/grid/code?sha256={pack.sha256}"
    assert user.session.put(served.url + where, data=data, headers=user.headers, timeout=30).status_code == 200
    assert user.post(ADD, {"jobs": [{"spec": to_plain(job("coded", code=pack).spec)}]}).status_code == 200
    token = served.token(Role.PILOT, "p").read_text().strip()
    with connected(served) as line:
        line.sendall(f"GET {where} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        time.sleep(1.5)
        line.settimeout(10)
        found = 0
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := line.recv(1 << 20):
                found += len(part)
        assert found < len(data)


def test_the_request_id_comes_back_if_it_is_one(user: Raw) -> None:
    assert user.post(FIND, {}, **{"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert user.post(FIND, {}, **{"X-Request-Id": "a b{}"}).headers["x-request-id"] != "a b{}"


def test_what_is_not_there_is_told(user: Raw) -> None:
    for path in ("/api/v1/grid/nothing", "/api/../secret", "/favicon.ico"):
        assert user.post(path, {}).status_code == 404
    assert user.get(FIND).status_code == 404
