"""Storage tokens, asked for by those who should not have them."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import jwt
import pytest

from pilot.model.job import Verdict
from pilot.model.report import Report
from pilot.ports import Final
from pilot.queue.service import signing
from pilot.queue.service.call import Role
from pilot.queue.service.storage_tokens import StorageKey
from tests.beds.served import Raw, Served, new_queue
from tests.contracts.server_beds import HandClock, ask, job, offer

WHERE = "/api/v1/grid/storage_token"
LEASE = 600.0
UNCHANGED: Mapping[str, object] = {}
OURS = {"job_id": "a1", "attempt": 1, "claim_id": "c"}


class Bed:
    """A served queue with a storage's key, and an attempt of anna's that claim c has."""

    def __init__(self, folder: Path, base: str = "/outputs") -> None:
        self.clock = HandClock()
        self.key = signing.read_key(signing.new_key(), "site key", self.clock)
        storage = StorageKey(self.key, "https://site", "https://dav.site", base)
        self.served = Served(new_queue(folder, lease=LEASE), self.clock, storage=storage)
        self.anna, self.pilot = self.served.user("anna"), self.served.pilot()
        self.anna.add([job("a", job_id="a1"), job("a", job_id="a10")])
        self.pilot.claim(ask("c", by=offer()))

    def asked(
        self, role: Role = Role.PILOT, body: object = None, changed: Mapping[str, object] = UNCHANGED
    ) -> tuple[int, str]:
        """The status, and the token or why not."""
        raw = Raw(self.served, self.served.token(role, "p").read_text().strip())
        reply = raw.post(WHERE, body if body is not None else {**OURS, **changed})
        raw.close()
        found = reply.json()
        return reply.status_code, found["data"]["token"] if reply.status_code == 200 else found["message"]

    def claims(self, token: str) -> dict[str, object]:
        public = self.key.private.public_key()
        return jwt.decode(token, public, ["ES256"], {"verify_exp": False, "verify_nbf": False, "verify_iat": False},
                          audience="https://dav.site")  # fmt: skip

    def report(self) -> None:
        when = "2026-11-20T12:00:00+00:00"
        assert list(self.pilot.report([Report("a1", 1, "a", Verdict.SUCCEEDED, when, when)])) == [True]

    def close(self) -> None:
        self.anna.close()
        self.pilot.close()
        self.served.close()


@pytest.fixture
def bed(folder: Path) -> Iterator[Bed]:
    made = Bed(folder)
    yield made
    made.close()


def test_only_pilots_may_ask(bed: Bed) -> None:
    assert bed.asked()[0] == 200
    assert [bed.asked(role)[0] for role in (Role.SUBMITTER, Role.OPERATOR)] == [403, 403]
    raw = Raw(bed.served)
    assert raw.post(WHERE, OURS).status_code == 401
    raw.close()


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"claim_id": ""}, 403),
        ({"claim_id": "another"}, 403),
        ({"claim_id": "%"}, 403),
        ({"attempt": 0}, 403),
        ({"attempt": 2}, 403),
        ({"attempt": -1}, 403),
        ({"attempt": 1 << 70}, 422),
        ({"job_id": "a10"}, 403),
        ({"job_id": "../a1"}, 403),
        ({"job_id": "a1/../a10"}, 403),
        ({"job_id": "a1 storage.modify:/"}, 403),
        ({"job_id": "x" * 100_000}, 403),
        ({"queue": "other"}, 403),
        ({"attempt": True}, 422),
        ({"attempt": "1"}, 422),
        ({"attempt": 1.0}, 422),
        ({"job_id": None}, 422),
        ({"claim_id": None}, 422),
        ({"scope": "storage.modify:/"}, 422),
    ],
)
def test_what_is_not_the_attempt_of_that_claim_gets_none(bed: Bed, changed: dict[str, object], status: int) -> None:
    found, why = bed.asked(changed=changed)
    assert (found, "\n" in why, len(why) < 300) == (status, False, True), why


def test_a_body_that_is_no_text_is_refused(bed: Bed) -> None:
    for body in (b'{"job_id": "\\ud800", "attempt": 1, "claim_id": "\\ud800"}', b'{"job_id": "a1", "attempt": 1}'):
        assert 400 <= bed.asked(body=body)[0] < 500


def test_the_scope_is_the_attempts_place_and_the_end_the_leases(bed: Bed) -> None:
    bed.clock.now += 100
    claims = bed.claims(bed.asked()[1])
    assert claims["scope"] == "storage.read:/outputs/a1/ storage.create:/outputs/a1/1/"
    assert claims["exp"] == int(bed.clock.now - 100 + LEASE)
    assert claims["nbf"] <= bed.clock.now  # type: ignore[operator]
    assert claims["jti"] != bed.claims(bed.asked()[1])["jti"]


def test_a_lease_that_ran_out_gets_none_though_nobody_has_noticed(bed: Bed) -> None:
    bed.clock.now += LEASE - 2
    assert bed.claims(bed.asked()[1])["exp"] == int(bed.clock.now + 2)
    bed.clock.now += 2
    assert bed.asked()[0] == 403


def test_an_attempt_that_is_over_gets_none(bed: Bed) -> None:
    bed.report()
    assert bed.asked()[0] == 403


def test_an_attempt_that_another_has_followed_gets_none(bed: Bed) -> None:
    bed.clock.now += LEASE + 1000
    granted = [each for each in bed.pilot.claim(ask("d", "e", by=offer())) if each is not None]
    for _ in range(20):
        if any(each.job_id == "a1" for each in granted):
            break
        bed.clock.now += 1000
        granted += [each for each in bed.pilot.claim(ask(f"f{len(granted)}{_}", by=offer())) if each is not None]
        threading.Event().wait(0.01)
    assert ("a1", 2) in [(each.job_id, each.attempt) for each in granted]
    assert bed.asked()[0] == 403
    assert bed.asked(changed={"attempt": 2})[0] == 403


@pytest.mark.parametrize(("base", "own"), [("/", "/a1/"), ("/ml/", "/ml/a1/"), ("", "/a1/")])
def test_a_base_with_or_without_slashes_gives_one_path(folder: Path, base: str, own: str) -> None:
    bed = Bed(folder, base)
    try:
        assert bed.claims(bed.asked()[1])["scope"] == f"storage.read:{own} storage.create:{own}1/"
    finally:
        bed.close()


@pytest.mark.parametrize("base", ["/a b", "/a/../b", "//a", "/a\n", '/a"', "/.", "ml", "/ü"])
def test_a_base_that_could_say_more_than_one_path_is_refused(base: str) -> None:
    key = signing.read_key(signing.new_key(), "site key")
    with pytest.raises(Final, match="--storage-base"):
        StorageKey(key, "https://site", "https://dav.site", base)
