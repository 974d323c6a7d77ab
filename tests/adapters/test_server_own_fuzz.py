"""Whatever a queue answers, a pilot and a user meet the port's own errors or sound values, and nothing else."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot.adapters.server_answer import Answer, reply_in
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_own import ATTEMPT_CAP, LEASE_SECONDS, OwnServer
from pilot.adapters.server_pool import Asked
from pilot.adapters.server_queue import OwnQueue
from pilot.model.job import Grant, JobSpec, Verdict
from pilot.model.plain import to_plain
from pilot.model.queue import Explanation, JobRow, JobState, JobView, QueueSettings
from pilot.model.report import Report
from pilot.model.rules import broken, placed
from pilot.ports import Beat, BeatReply, PortError, Registration, Unclaim
from pilot.wire.envelope import MOST, Reply
from tests.contracts.server_beds import ask, offer

SPEC = JobSpec("x", ("true",))
ROW = JobRow("j", 1, "x", "me", JobState.WAITING)
GOOD: dict[str, object] = {
    "register": Registration(60.0, 1.0, poll_cap_seconds=9.0),
    "claim": {"grants": [Grant("j", 1, SPEC, 60.0, receipt="r")], "version": "1"},
    "changed": {"changed": True, "version": "1"},
    "renew": [BeatReply("j", 1, True, 60.0, "cancel", "ps")],
    "adopt": [BeatReply("j", 1, True, 60.0)],
    "report": [True],
    "give_back": None,
    "add": [ROW],
    "find": [ROW],
    "show": JobView(ROW, "default", SPEC, 0, 0, 0, ""),
    "results": [Report("j", 1, "x", Verdict.SUCCEEDED, "", "")],
    "explain": Explanation("j", "c", "a", "w", "o"),
    "settings": QueueSettings("default", "me"),
    "hold": [ROW],
    "log": {"text": "t", "offset": 1, "live": False},
    "answer": {"question": "ps", "answer": ""},
}


class OneAnswer:
    """A line that gives those octets to every request, as if they had come over the wire."""

    origin = "https://h"

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def reply(self, _: Asked) -> Reply:
        return reply_in(Answer(200, {}, self._octets), "https://h", lambda text: text, MOST)


def act(verb: str, octets: bytes) -> object:
    calls = Calls(OneAnswer(octets), "default")  # type: ignore[arg-type]
    server, queue = OwnServer(calls), OwnQueue(calls)
    server._stirred = False
    beats = [Beat("j", 1, "running")]
    acts: dict[str, Callable[[], object]] = {
        "register": lambda: server.register(offer()),
        "claim": lambda: server.claim(ask("c1")),
        "changed": server.changed,
        "renew": lambda: server.renew(beats),
        "adopt": lambda: server.adopt("p1", beats),
        "report": lambda: server.report([Report("j", 1, "x", Verdict.SUCCEEDED, "", "")]),
        "give_back": lambda: server.give_back([Unclaim("c1")]),
        "add": lambda: queue.add([]),
        "find": queue.find,
        "show": lambda: queue.show("j"),
        "results": lambda: queue.results("j"),
        "explain": lambda: queue.explain("j"),
        "settings": queue.settings,
        "hold": lambda: queue.hold(["j"]),
        "log": lambda: queue.log("j", "stdout", 0),
        "answer": lambda: queue.answer("j"),
    }
    return acts[verb]()


def check(verb: str, found: object) -> None:
    if verb == "claim":
        for each in found:  # type: ignore[attr-defined]
            assert each is None or (LEASE_SECONDS[0] <= each.lease_seconds <= LEASE_SECONDS[1] and each.job_id)
            assert each is None or 0 < each.attempt < ATTEMPT_CAP
            assert each is None or broken(each.spec) == placed(each.spec) == ""
    if verb in ("renew", "adopt"):
        assert [(each.job_id, each.attempt) for each in found] == [("j", 1)]  # type: ignore[attr-defined]
    if verb == "report":
        assert list(found) in ([True], [False])  # type: ignore[call-overload]


def complaint(verb: str, octets: bytes) -> str:
    """What the port's own error says; "" where the answer was sound."""
    try:
        check(verb, act(verb, octets))
    except PortError as problem:
        return problem.fault.detail
    return ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_what_is_good_is_read() -> None:
    for verb, good in GOOD.items():
        octets = json.dumps({"success": True, "message": "", "data": to_plain(good)}).encode()
        check(verb, act(verb, octets))


@pytest.mark.parametrize(
    "more",
    [{"needs": []}, {"needs": [{"cpus": -1}]}, {"command": []}, {"max_interruptions": 1 << 40},
     {"outputs": [{"name": "a", "url": "file:///root/.ssh/authorized_keys"}]},
     {"log_archive": {"name": "a", "url": "file:///etc/cron.d/a"}}],
)  # fmt: skip
def test_a_grant_that_no_pilot_could_run_is_refused_and_others_go_on(more: dict[str, object]) -> None:
    bad = {"job_id": "j", "attempt": 1, "lease_seconds": 60.0, "spec": {"name": "x", "command": ["true"], **more}}
    data = {"grants": [bad], "version": "1"}
    (found,) = act("claim", json.dumps({"success": True, "message": "", "data": data}).encode())  # type: ignore[misc]
    assert found.refusal.code == "job.invalid"
    given = {"party": "job", "code": "image.unfit", "message": "m", "remedy": "r"}
    data = {"grants": [{**bad, "refusal": given}], "version": "1"}
    check("claim", act("claim", json.dumps({"success": True, "message": "", "data": data}).encode()))
    assert (found.job_id, found.spec.outputs, found.spec.log_archive) == ("j", (), None)


@settings(max_examples=800, deadline=1000, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_one_wrong_part_is_no_trouble(verb: str, data: st.DataObject) -> None:
    """A good answer, somewhere in which one value is another."""
    whole = {"data": copy.deepcopy(to_plain(GOOD[verb]))}
    place: Any = whole
    name: Any = "data"
    while isinstance(place[name], dict | list) and place[name] and data.draw(st.booleans()):
        place = place[name]
        name = data.draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else len(place) - 1
    place[name] = data.draw(JSON)
    octets = json.dumps({"success": True, "message": "", **whole}).encode()
    said = complaint(verb, octets)
    assert said.isprintable()
    assert len(said) < 600


@settings(max_examples=300, deadline=1000)
@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_rubbish_is_no_trouble(verb: str, octets: bytes) -> None:
    assert len(complaint(verb, octets)) < 600


@settings(max_examples=200, deadline=1000)
@given(JSON, st.text(max_size=30))
def test_refusals_of_any_kind_are_port_errors(data: object, message: str) -> None:
    octets = json.dumps({"success": False, "message": message, "data": data}).encode()
    assert complaint("show", octets).isprintable()
