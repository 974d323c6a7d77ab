"""What goes wrong between a pilot and a plain PanDA server, on a real socket: no result is lost, none counts twice.

Each call is begun again after a fault, with the same words, as the pilot does; the server's own record is then looked
at. What is lost with an answer to `acquire_jobs` is stated here too: on PanDA the job stays `sent` until the server
takes it for lost, and the next claim gives another.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.adapters.server_gate import Gate
from pilot.adapters.server_panda import PandaServer
from pilot.model.files import FileRecord
from pilot.model.job import Grant, Verdict
from pilot.model.report import Report
from pilot.ports import Beat, Final, Passing, PortError, Unclaim
from pilot.wire.envelope import Reply
from tests.contracts.server_beds import ask, offer
from tests.fakes.authority import DAY
from tests.fakes.panda import Panda, Row
from tests.fakes.reached import QUICK, Reached
from tests.fakes.server import FakeServer, Fault, busy, gone, odd, reset_at
from tests.unit.wire.recorded import SITE, definition

LOST = Fault(done=True, cut_at=0)  # carried out, but nobody hears of it
FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (LOST, "cut"),
    "refused-early": (reset_at(0, done=False), "cut"),
    "cut-in-head": (reset_at(20), "cut|broke"),
    "cut-in-body": (reset_at(100), "cut|broke"),
    "half-open": (Fault(hangs=True), "no answer within"),
    "500": (odd(b"oops", 500), "500 Internal Server Error: oops"),
    "500-done": (Fault(500, (), b"oops", done=True), "500 Internal Server Error: oops"),
    "502": (odd(b"<html>Bad Gateway</html>", 502), "502 Bad Gateway"),
    "503": (busy(503, "0"), "503 Service Unavailable"),
    "429": (busy(429, "0"), "429 Too Many Requests"),
    "no-json": (odd(b"<html>Welcome to the hotel's network</html>"), "is no JSON"),
    "no-json-done": (Fault(0, (), b"garbage", done=True), "is no JSON"),
    "no-envelope": (odd(b"[1, 2]"), "no envelope"),
    "other-types": (odd(b'{"success": "yes", "message": 3, "data": "all"}'), "no envelope"),
    "huge": (Fault(huge=2 << 30), "more than 4194304 bytes: cut off|no answer within"),
    "bomb": (Fault(bomb=70 << 20), "more than 4194304 bytes: cut off|no answer within"),
}


@pytest.fixture
def reached(tmp_path: Path) -> Iterator[Reached]:
    made = Reached(tmp_path, tls=False)
    made.server.panda = Panda()
    yield made
    made.server.released.set()
    made.close()


def panda_of(reached: Reached) -> Panda:
    assert reached.server.panda is not None
    return reached.server.panda


def pilot_of(reached: Reached) -> PandaServer:
    return PandaServer(reached.line(limits=QUICK, gate=Gate()), SITE)


def row(reached: Reached, name: str = "echo", **changes: object) -> Row:
    return panda_of(reached).add(definition(name, **changes))


def report(grant: Grant, verdict: Verdict = Verdict.SUCCEEDED) -> Report:
    moments = ("2026-11-20T17:00:00.000Z", "2026-11-20T17:01:00.000Z")
    archive = FileRecord("l", "file:///l", 1, "00000001", "0" * 64)
    return Report(
        grant.job_id, grant.attempt, grant.spec.name, verdict, *moments, archive=archive, receipt=grant.receipt
    )


def beat(grant: Grant) -> Beat:
    return Beat(grant.job_id, grant.attempt, "running", receipt=grant.receipt)


def claimed(reached: Reached) -> Grant:
    (grant,) = pilot_of(reached).claim(ask("c"))
    assert grant is not None
    return grant


def ends(found: Row) -> list[object]:
    return [each["job_status"] for each in found.updates if each["job_status"] in ("finished", "failed")]


def again(act: Callable[[], object], says: str) -> object:
    """The call fails once, in one line that says why, and is then answered."""
    with pytest.raises(PortError, match=says) as caught:
        act()
    assert caught.value.fault.detail.isprintable()
    assert isinstance(caught.value, Passing)
    return act()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_call_loses_and_doubles_no_result(reached: Reached, name: str) -> None:
    fault, says = FAULTS[name]
    pilot, job, server = pilot_of(reached), row(reached), reached.server
    server.plan.add(fault, "is_alive")
    again(lambda: pilot.register(offer()), says)
    grant = claimed(reached)
    for act in (
        lambda: pilot.renew([beat(grant)])[0].ours,
        lambda: pilot.report([report(grant)])[0],
        lambda: pilot.report([report(grant)])[0],
    ):
        server.plan.add(fault, "update_job")
        assert again(act, says) is True
    assert ends(job) == ["finished"]
    server.plan.add(fault, "get_job_status")
    assert again(lambda: pilot.adopt("p", [beat(grant)])[0].ours, says) is True
    assert len(server.seen) < 20  # nothing is asked by itself


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_a_claim_leaves_at_most_that_job_as_sent(reached: Reached, name: str) -> None:
    """The answer of PanDA to a claim is for once: what is lost with it waits for the server's own half an hour."""
    fault, says = FAULTS[name]
    first, second = row(reached), row(reached, PandaID=7_000_001)
    reached.server.plan.add(fault, "acquire_jobs")
    (grant,) = again(lambda: pilot_of(reached).claim(ask("c")), says)  # type: ignore[misc]
    assert isinstance(grant, Grant)
    if fault.done:
        assert (first.status, second.status, grant.job_id) == ("sent", "sent", "7000001")
    else:
        assert (first.status, second.status) == ("sent", "activated")
    assert pilot_of(reached).renew([beat(grant)])[0].ours
    assert (first.updates == []) is fault.done  # no word about a job that nobody heard of


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_giving_back_fails_the_job_once(reached: Reached, name: str) -> None:
    fault, says = FAULTS[name]
    job, grant, pilot = row(reached), claimed(reached), pilot_of(reached)
    reached.server.plan.add(fault, "update_job")
    again(lambda: pilot.give_back([Unclaim("c", grant.job_id, grant.attempt, grant.receipt)]), says)
    assert ends(job) == ["failed"]


@pytest.mark.parametrize("cut", [0, 1, 9, 12, 13, 60, 99, 150, 250])
def test_a_reports_answer_cut_at_any_byte_counts_once(reached: Reached, cut: int) -> None:
    job, grant, pilot = row(reached), claimed(reached), pilot_of(reached)
    for _ in range(3):
        reached.server.plan.add(reset_at(cut), "update_job")
        try:
            assert list(pilot.report([report(grant)])) == [True]  # the answer is shorter than the cut
        except Passing:
            continue
    assert list(pilot.report([report(grant)])) == [True]
    assert ends(job) == ["finished"]


def test_an_outage_of_any_length_loses_no_result_as_long_as_the_server_waits(reached: Reached) -> None:
    """PanDA has no lease of ours: after 10 s, 2 min or hours the same words are answered the same way."""
    job, grant, pilot = row(reached), claimed(reached), pilot_of(reached)
    with gone(reached.server):
        for act in (lambda: pilot.renew([beat(grant)]), lambda: pilot.report([report(grant)])):
            with pytest.raises(Passing, match="connection refused; is the server running"):
                act()
    assert pilot.renew([beat(grant)])[0].ours
    assert list(pilot.report([report(grant)])) == [True]
    assert ends(job) == ["finished"]


def test_after_the_servers_limit_the_next_attempt_alone_counts(reached: Reached) -> None:
    job, grant, pilot = row(reached), claimed(reached), pilot_of(reached)
    with gone(reached.server):
        job.attempt += 1  # the server took it for lost, and gave it anew
    assert not pilot.renew([beat(grant)])[0].ours
    assert list(pilot.report([report(grant)])) == [False]
    assert ends(job) == []


def test_the_same_job_twice_in_one_answer_is_one_grant(reached: Reached) -> None:
    job = row(reached)
    twice = {"StatusCode": 0, "jobs": [job.definition, job.definition]}
    panda_of(reached).instead["acquire_jobs"] = [Reply(True, "", twice)]
    first, second = pilot_of(reached).claim(ask("c1", "c2"))
    assert (first is None) != (second is None)
    assert ends(job) == []


@pytest.mark.parametrize("day", [86400.0, -86400.0])
def test_clocks_that_are_a_day_apart_change_nothing(reached: Reached, day: float) -> None:
    reached.server.date_ahead = day
    job, pilot = row(reached), pilot_of(reached)
    reached.server.plan.add(busy(503, "0"), "acquire_jobs")
    with pytest.raises(Passing):
        pilot.claim(ask("c"))
    grant = claimed(reached)
    assert pilot.renew([beat(grant)])[0].lease_seconds == SITE.lease_seconds  # a length, never a moment
    assert list(pilot.report([report(grant)])) == [True]
    assert ends(job) == ["finished"]


def test_while_a_server_is_busy_nothing_is_sent(reached: Reached) -> None:
    pilot = pilot_of(reached)
    reached.server.plan.add(busy(429, "300"))
    for _ in range(100):
        with pytest.raises(Passing):
            pilot.claim(ask("c"))
    assert len(reached.server.seen) == 1


@pytest.mark.parametrize("kind", ["expired", "wrong-host", "self-signed"])
def test_a_bad_certificate_hears_of_no_job(tmp_path: Path, kind: str) -> None:
    reached = Reached(tmp_path)
    reached.server.panda = Panda()
    authority = reached.authority
    pair = {
        "expired": lambda: authority.issue(life=(-3 * DAY, -DAY)),
        "wrong-host": lambda: authority.issue("elsewhere.example"),
        "self-signed": authority.self_signed,
    }[kind]()
    job = row(reached)
    reached.server.use(pair.file)
    with pytest.raises(Passing, match="certificate is not to be trusted"):
        pilot_of(reached).claim(ask("c"))
    assert (reached.server.seen, job.status) == ([], "activated")
    reached.close()


def test_no_redirect_is_followed(reached: Reached) -> None:
    job = row(reached)
    with FakeServer(reached.path) as other:
        reached.server.plan.add(odd(b"", 307, Location=other.url))
        with pytest.raises(Final, match="where we do not follow"):
            pilot_of(reached).claim(ask("c"))
        assert other.seen == []
    assert job.status == "activated"
