"""What goes wrong between a pilot and its queue loses no result and doubles none: every fault, at every call.

Each call is begun again after a fault, with the same words, as the pilot does; the queue itself is then asked what
became of the jobs.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilot.adapters.credentials_token import NoCredential
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine, Limits
from pilot.adapters.server_own import OwnServer
from pilot.model.faults import Code
from pilot.model.files import CodePack
from pilot.model.job import Grant, Verdict
from pilot.model.queue import JobState
from pilot.model.report import Report
from pilot.ports import Beat, Final, Passing, PortError, Unclaim
from tests.contracts.server_beds import LEASE, ask, job, offer
from tests.fakes.queue_calls import envelope_of
from tests.fakes.reached import QUICK, Reached
from tests.fakes.server import Fault, busy, gone, odd, reset_at

LOST = Fault(done=True, cut_at=0)  # carried out, but nobody hears of it
FAULTS: dict[str, Fault] = {
    "lost": LOST,
    "refused-early": reset_at(0, done=False),
    "cut-in-head": reset_at(20),
    "cut-in-body": reset_at(100),
    "half-open": Fault(hangs=True),
    "500": odd(b"oops", 500),
    "500-done": Fault(500, (), b"oops", done=True),
    "502": odd(b"<html>Bad Gateway</html>", 502),
    "503": busy(503, "0"),
    "429": busy(429, "0"),
    "no-json": odd(b"<html>Welcome to the hotel's network</html>"),
    "no-json-done": Fault(0, (), b"garbage", done=True),
    "null": odd(b'{"success": true, "message": "", "data": null}'),
    "other-types": odd(b'{"success": true, "message": "", "data": {"grants": "all", "version": 1}}'),
    "too-many": odd(b'{"success": true, "message": "", "data": [true, true, true, true, true]}'),
    "bomb": Fault(bomb=70 << 20),
    "refusal": odd(envelope_of(Code.SERVER_UNREACHABLE, "the database is busy", "passing"), 503, Retry_After="0"),
}


@pytest.fixture
def reached(tmp_path: Path) -> Iterator[Reached]:
    made = Reached(tmp_path, tls=False)
    yield made
    made.server.released.set()
    made.close()


def report(grant: Grant) -> Report:
    return Report(grant.job_id, grant.attempt, grant.spec.name, Verdict.SUCCEEDED, "", "")


def until_it_works(act: Callable[[], object], fails: int = 1, shows: bool = True) -> object:
    """As the pilot does: the same words again, until they are answered; gives the answer, and counts the failures."""
    seen = 0
    while True:
        try:
            found = act()
        except PortError:
            seen += 1
            assert seen <= fails
        else:
            assert seen == fails or not shows, "the fault did not show"
            return found


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("verb", ["register", "claim", "renew", "report", "give_back", "adopt"])
def test_no_fault_at_any_call_loses_or_doubles_anything(reached: Reached, verb: str, name: str) -> None:
    if (verb, name) == ("give_back", "null"):
        return  # null is its answer
    reached.server.queue.call("add", b"", "")  # a call that is no call changes nothing
    owner, pilot = reached.owner(), reached.server_port(QUICK)
    owner.add([job("a"), job("b"), job("c")])

    halved = name == "bomb" and verb in ("claim", "renew", "adopt")  # too much at once is asked for in parts

    def call(which: str, act: Callable[[], object]) -> object:
        if which == verb:
            reached.server.plan.add(FAULTS[name], verb)
        return until_it_works(act, shows=not halved) if which == verb else act()

    call("register", lambda: pilot.register(offer()))
    found = call("claim", lambda: pilot.claim(ask("c1", "c2")))
    assert isinstance(found, list)
    first, second = found
    assert [each.spec.name for each in (first, second)] == ["a", "b"]
    beats = [Beat(each.job_id, each.attempt, "running") for each in (first, second)]
    replies = call("renew", lambda: pilot.renew(beats))
    assert [each.ours for each in replies] == [True, True]  # type: ignore[attr-defined]
    adopted = call("adopt", lambda: pilot.adopt("p1", beats))
    assert [each.ours for each in adopted] == [True, True]  # type: ignore[attr-defined]
    call("give_back", lambda: pilot.give_back([Unclaim("c2")]))
    assert call("report", lambda: pilot.report([report(first)])) == [True]
    assert [(each.name, each.attempt, each.state.value) for each in owner.find()] == [
        ("a", 1, "done"), ("b", 1, "waiting"), ("c", 0, "waiting")
    ]  # fmt: skip
    assert [each.attempt for each in owner.results("a")] == [1]
    assert list(pilot.claim(ask("c1", "c2"))) == [None, None]  # both are spent


@pytest.mark.parametrize("cut", [0, 1, 9, 12, 13, 60, 99, 150, 250])
def test_a_claims_answer_cut_at_any_byte_strands_no_job(reached: Reached, cut: int) -> None:
    owner, pilot = reached.owner(), reached.server_port(QUICK)
    owner.add([job("a"), job("b")])
    for _ in range(3):
        reached.server.plan.add(reset_at(cut), "claim")
        with pytest.raises(Passing):
            pilot.claim(ask("c1"))
    (grant,) = pilot.claim(ask("c1"))
    assert grant is not None
    assert (grant.spec.name, grant.attempt) == ("a", 1)
    assert [each.state.value for each in owner.find()] == ["granted", "waiting"]


def test_a_lost_claim_of_a_pilot_that_died_is_free_after_its_lease(reached: Reached) -> None:
    owner, pilot = reached.owner(), reached.server_port()
    owner.add([job("a")])
    reached.server.plan.add(LOST, "claim")
    with pytest.raises(Passing):
        pilot.claim(ask("c1"))
    reached.clock.move(LEASE + 1)
    (grant,) = reached.server_port().claim(ask("c2", by=offer("p2")))
    assert grant is not None
    assert grant.attempt == 2


@pytest.mark.parametrize("seconds", [10.0, LEASE - 1])
def test_an_outage_shorter_than_the_lease_costs_nothing(reached: Reached, seconds: float) -> None:
    owner, pilot = reached.owner(), reached.server_port()
    owner.add([job("a")])
    (grant,) = pilot.claim(ask("c1"))
    assert grant is not None
    beats = [Beat(grant.job_id, 1, "running")]
    with gone(reached.server):
        for act in (lambda: pilot.renew(beats), lambda: pilot.report([report(grant)]), lambda: pilot.changed(1.0)):
            with pytest.raises(Passing, match="connection refused"):
                act()
        reached.clock.move(seconds)
    assert list(reached.server_port().claim(ask("c2", by=offer("p2")))) == [None]
    assert pilot.renew(beats)[0].ours
    assert list(pilot.report([report(grant)])) == [True]
    view = owner.show("a")
    assert (view.failures, view.interruptions, view.job.attempt, view.job.verdict) == (0, 0, 1, "succeeded")


@pytest.mark.parametrize("taken", [False, True])
def test_an_outage_longer_than_the_lease_fences_only_what_somebody_else_has(reached: Reached, taken: bool) -> None:
    owner, pilot = reached.owner(), reached.server_port()
    owner.add([job("a")])
    (grant,) = pilot.claim(ask("c1"))
    assert grant is not None
    with gone(reached.server):
        reached.clock.move(2 * LEASE)
    if taken:
        (other,) = reached.server_port().claim(ask("c2", by=offer("p2")))
        assert other is not None
    assert pilot.renew([Beat(grant.job_id, 1, "running")])[0].ours is not taken
    assert list(pilot.report([report(grant)])) == [not taken]
    assert [each.attempt for each in owner.results("a")] == ([] if taken else [1])


@pytest.mark.parametrize("day", [86400.0, -86400.0])
def test_clocks_that_are_a_day_apart_change_nothing(reached: Reached, day: float) -> None:
    reached.clock.move(day)
    reached.server.date_ahead = day
    owner, pilot = reached.owner(), reached.server_port()
    owner.add([job("a")])
    reached.server.plan.add(busy(503, "0"), "claim")
    with pytest.raises(Passing):
        pilot.claim(ask("c1"))
    (grant,) = pilot.claim(ask("c1"))
    assert grant is not None
    assert grant.lease_seconds == LEASE  # a length, never a moment
    assert list(pilot.report([report(grant)])) == [True]


# --- what a hostile queue says ---


def said(data: str) -> Fault:
    return odd(f'{{"success": true, "message": "", "data": {data}}}'.encode())


SPEC = '{"name": "x", "command": ["true"]}'
GRANTS = {
    "lease": f'{{"job_id": "j", "attempt": 1, "spec": {SPEC}, "lease_seconds": 1e12}}',
    "no-lease": f'{{"job_id": "j", "attempt": 1, "spec": {SPEC}, "lease_seconds": 0}}',
    "minus": f'{{"job_id": "j", "attempt": 1, "spec": {SPEC}, "lease_seconds": -60}}',
    "attempt": f'{{"job_id": "j", "attempt": 0, "spec": {SPEC}, "lease_seconds": 60}}',
    "huge-attempt": f'{{"job_id": "j", "attempt": 99999999999, "spec": {SPEC}, "lease_seconds": 60}}',
    "id": f'{{"job_id": "", "attempt": 1, "spec": {SPEC}, "lease_seconds": 60}}',
    "id-lines": f'{{"job_id": "a\\nb", "attempt": 1, "spec": {SPEC}, "lease_seconds": 60}}',
    "long-id": f'{{"job_id": "{"j" * 300}", "attempt": 1, "spec": {SPEC}, "lease_seconds": 60}}',
    "nothing-known": '{"spec": 3}',
    "text": '"job"',
}


@pytest.mark.parametrize("name", GRANTS)
def test_grants_that_make_no_sense_are_not_taken(reached: Reached, name: str) -> None:
    reached.server.plan.add(said(f'{{"grants": [{GRANTS[name]}], "version": "1"}}'), "claim")
    with pytest.raises(Passing, match="makes no sense") as caught:
        reached.server_port().claim(ask("c1"))
    assert "\n" not in caught.value.fault.detail


def test_a_job_that_this_pilot_cannot_read_is_refused_and_holds_up_no_other(reached: Reached) -> None:
    new = '{"job_id": "j", "attempt": 2, "lease_seconds": 60, "spec": {"name": "x", "command": ["true"], "quantum": 1}}'
    old = f'{{"job_id": "k", "attempt": 1, "lease_seconds": 60, "spec": {SPEC}}}'
    reached.server.plan.add(said(f'{{"grants": [{new}, {old}], "version": ""}}'), "claim")
    first, second = reached.server_port().claim(ask("c1", "c2"))
    assert first is not None
    assert first.refusal is not None
    assert (first.job_id, first.attempt, first.refusal.code) == ("j", 2, Code.JOB_INVALID)
    assert "quantum" in first.refusal.detail
    assert second is not None
    assert (second.job_id, second.refusal) == ("k", None)


def test_one_attempt_for_two_claims_is_not_taken(reached: Reached) -> None:
    twice = f'{{"job_id": "j", "attempt": 1, "spec": {SPEC}, "lease_seconds": 60}}'
    reached.server.plan.add(said(f'{{"grants": [{twice}, {twice}], "version": ""}}'), "claim")
    with pytest.raises(Passing, match="given twice at once"):
        reached.server_port().claim(ask("c1", "c2"))


@pytest.mark.parametrize(
    ("verb", "data"),
    [
        ("register", '{"lease_seconds": 1e300, "poll_seconds": 1}'),
        ("register", '{"lease_seconds": 60, "poll_seconds": -1}'),
        ("register", '{"lease_seconds": "60", "poll_seconds": 1}'),
        ("register", '{"lease_seconds": 60, "poll_seconds": 1, "poll_cap_seconds": 1e9}'),
        ("renew", '[{"job_id": "other", "attempt": 1, "ours": false}]'),
        ("renew", '[{"job_id": "j", "attempt": 1, "ours": true, "lease_seconds": 0}]'),
        ("renew", "[]"),
        ("renew", '[{"job_id": "j", "attempt": 1, "ours": 1}]'),
        ("changed", "true"),
        ("report", '["yes"]'),
        ("report", "[true, true]"),
    ],
)
def test_other_words_that_make_no_sense_are_not_believed(reached: Reached, verb: str, data: str) -> None:
    pilot = reached.server_port()
    pilot.claim([])
    pilot._stirred = False
    reached.server.plan.add(said(data), verb)
    acts: dict[str, Callable[[], object]] = {
        "register": lambda: pilot.register(offer()),
        "renew": lambda: pilot.renew([Beat("j", 1, "running")]),
        "changed": pilot.changed,
        "report": lambda: pilot.report([Report("j", 1, "x", Verdict.SUCCEEDED, "", "")]),
    }
    with pytest.raises(Passing, match="makes no sense"):
        acts[verb]()


# --- refusals, size, patience ---


def test_a_refusal_comes_in_the_servers_own_words(reached: Reached) -> None:
    owner = reached.owner()
    with pytest.raises(PortError) as caught:
        owner.show("nobody")
    assert caught.value.fault.detail == "queue default: no job 'nobody'; see pilot queue ls"
    reached.server.plan.add(odd(b'{"success": false, "message": "no\\nway\\u001b[31m", "data": null}'))
    with pytest.raises(PortError, match=r"/show: refused: no way \[31m$"):
        owner.show("nobody")


def test_many_claims_go_in_few_calls_and_each_offer_once(reached: Reached) -> None:
    reached.owner().add([job("a")])
    pilot = reached.server_port()
    answers = pilot.claim(ask(*(f"c{n}" for n in range(2500))))
    assert [each is not None for each in answers].count(True) == 1
    claims = [asked for verb, asked in reached.server.queue.done if verb == "claim"]
    assert [(len(each["offers"]), len(each["claims"])) for each in claims] == [(1, 1000), (1, 1000), (1, 500)]


def test_an_answer_that_is_too_much_is_asked_for_in_halves(reached: Reached) -> None:
    owner, pilot = reached.owner(), reached.server_port()
    packed = tuple((f"V{n}", "x" * 1000) for n in range(400))
    owner.add([job(f"j{each}", environment=packed) for each in range(14)])  # more than 4 MiB together
    answers = pilot.claim(ask(*(f"c{each}" for each in range(14))))
    assert [each.spec.name for each in answers if each] == [f"j{each}" for each in range(14)]
    assert [len(asked["claims"]) for verb, asked in reached.server.queue.done if verb == "claim"] == [14, 7, 7]


def test_a_server_whose_every_answer_is_too_much_is_not_asked_on(reached: Reached) -> None:
    pilot = reached.server_port()
    reached.server.plan.add(odd(b" " * (5 << 20)), "claim", times=100)
    with pytest.raises(Passing, match="more than 4194304 bytes"):
        pilot.claim(ask(*(f"c{each}" for each in range(1000))))
    assert len(reached.server.seen) == 10


def test_lists_are_read_by_the_page(reached: Reached) -> None:
    owner = reached.owner()
    for part in range(3):
        owner.add([job(f"{part}-{each}") for each in range(700)])
    found = owner.find()
    assert [each.name for each in found] == [f"{part}-{each}" for part in range(3) for each in range(700)]
    assert reached.server.verbs().count("find") == 3
    assert owner.find(limit=1500) == found[:1500]
    assert owner.find([JobState.WAITING], after=found[1000].job_id) == found[1001:]
    assert len(owner.hold([each.job_id for each in found])) == 2100


def test_more_jobs_at_once_than_can_be_answered_are_not_sent(reached: Reached) -> None:
    with pytest.raises(Final, match="5001 jobs at once: add 5000 at most, or a sweep"):
        reached.owner().add([job("a")] * 5001)
    assert reached.server.seen == []


def test_a_look_waits_no_longer_than_it_may(reached: Reached) -> None:
    pilot = reached.server_port()
    pilot.claim(ask("c1"))
    assert not pilot.changed(1e9)
    (asked,) = (asked for verb, asked in reached.server.queue.done if verb == "changed")
    assert asked["patience"] == 25.0
    assert asked["since"]


def test_code_that_is_not_there_or_too_large(reached: Reached) -> None:
    pilot = reached.server_port()
    with pytest.raises(PortError, match="holds no code archive"):
        pilot.code(CodePack("0" * 64, 1))
    reached.server.plan.add(Fault(huge=1 << 30), "code")
    with pytest.raises(Passing, match="cut off"):
        pilot.code(CodePack("0" * 64, 1))


@pytest.mark.parametrize("tls", [True, False])
def test_an_archive_that_was_cut_is_none(tmp_path: Path, tls: bool) -> None:
    """An answer whose head is cut has no length; that must not make an empty archive of it."""
    reached = Reached(tmp_path, tls=tls)
    pilot = reached.server_port()
    whole = Fault(200, (), b"x" * 100)
    for cut in range(0, 180, 7):
        reached.server.plan.add(replace(whole, cut_at=cut), "code")
        with pytest.raises(Passing):
            pilot.code(CodePack("0" * 64, 1))
    reached.server.plan.add(whole, "code")
    assert pilot.code(CodePack("0" * 64, 1)) == whole.body
    reached.close()


def test_a_plain_panda_server_gets_no_call_of_ours(reached: Reached) -> None:
    from pilot.adapters.server_calls import discovered

    reached.server.queue._plain_panda = True
    line = HttpLine(reached.server.url, NoCredential(), Gate(), environment={})
    assert discovered(line) == frozenset()
    assert reached.server.verbs() == ["is_alive"]
    assert OwnServer(Calls(line, "default"))
    line.close()


def test_while_a_server_is_busy_nothing_is_sent(reached: Reached) -> None:
    reached.server.plan.add(busy(503, "300"))
    line = reached.line(limits=Limits())
    pilot = OwnServer(Calls(line, "default"))
    for _ in range(100):
        with pytest.raises(Passing):
            pilot.claim(ask("c1"))
    assert len(reached.server.seen) == 1
