"""Heartbeats as the loop uses them: what they carry, when they go, and what a lease counts from."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from pilot.model.facts import End, Fact, Usage
from pilot.model.faults import Code, Fault, fault
from pilot.model.job import Cause, Grant, Job, JobSpec, Phase
from pilot.ports import Beat, BeatReply, Vitals
from pilot.shell.crew import Crew
from pilot.shell.desk import Desk
from pilot.shell.errands import LEASE_LOST, Beaten
from pilot.shell.eyes import Seen, later
from pilot.shell.leases import Leases
from pilot.shell.tenure import Tenure
from pilot.shell.timers import Timers

JOB = Job("k", Phase.RUNNING, Grant("7", 1, JobSpec("n", ("true",)), 60.0, receipt="r"))


class Stand:
    """A tenure, its clock moved by hand; what it asked is kept until it is answered."""

    def __init__(self, phase_pause: float = 0.0) -> None:
        self.now = 100.0
        self.timers, self.facts = Timers(), list[Fact]()
        self.asked: list[tuple[str, list[Beat]]] = []
        self.looks: list[Callable[[], None]] = []
        errands = SimpleNamespace(
            beat=lambda beats, asked: self.asked.append(("renew", beats)),
            adopt=lambda beats, asked: self.asked.append(("adopt", beats)),
        )
        eyes = SimpleNamespace(
            vitals=lambda jobs: Seen(vitals={each.key: Vitals('{"step":1}', Usage(2.0)) for each in jobs}),
            answer=lambda job, question: Seen(answers={job.key: f"saw {question}"}),
        )
        desk = cast(Desk, SimpleNamespace(errands=errands, unit_random=lambda: 1.0, eyes=eyes))
        self.tenure = Tenure(desk, self.timers, lambda: self.now, self.facts.append, phase_pause)
        self.crew = cast(Crew, SimpleNamespace(beat=lambda action, broke: action(), see=self._see))

    def _see(self, action: Callable[[], None], broke: Callable[[Fault], None]) -> None:
        self.looks.append(action)

    def beat(self, adopting: bool = False) -> None:
        self.tenure.beat([JOB], self.crew, lambda _: None, adopting)

    def answered(self, question: str = "", problem: str = "") -> None:
        """The queue answers the heartbeat under way."""
        reply = BeatReply("7", 1, True, 60.0, question=question)
        if self.tenure.heard(Beaten(self.now, (reply,), problem), self.beat):
            self.tenure.settle("k", reply, self.now)
            self.tenure.ask(JOB, question, self.crew, self.seen)

    def seen(self, seen: Any) -> None:
        self.tenure.seen(seen, self.beat)

    def look(self) -> None:
        self.looks.pop(0)()

    def ring(self, seconds: float) -> None:
        self.now += seconds
        self.timers.ring(self.now)


def test_a_heartbeat_carries_what_was_seen_last() -> None:
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    stand.tenure.plan(stand.beat, lambda: stand.tenure.look([JOB], stand.crew, stand.seen))
    stand.ring(19.0)
    assert (len(stand.looks), stand.asked) == (1, [])
    stand.look()
    stand.ring(1.0)
    assert stand.asked == [("renew", [Beat("7", 1, "running", '{"step":1}', "r", Usage(2.0))])]


def test_a_look_that_hangs_delays_no_heartbeat_and_is_not_asked_again() -> None:
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    for _ in range(3):
        stand.tenure.plan(stand.beat, lambda: stand.tenure.look([JOB], stand.crew, stand.seen))
        stand.ring(20.0)
        stand.answered()
    assert (len(stand.looks), len(stand.asked)) == (1, 3)


def test_a_new_question_brings_the_next_heartbeat_forward() -> None:
    stand = Stand()
    stand.beat()
    stand.answered("ps")
    stand.look()
    stand.ring(0.9)
    assert len(stand.asked) == 1
    stand.ring(0.1)
    assert [beats[0].answer for _, beats in stand.asked] == ["", "saw ps"]
    stand.answered()
    stand.beat()
    assert stand.asked[-1][1][0].answer == "", "an answer that was heard is not told twice"


def test_an_answer_that_was_not_heard_is_told_again() -> None:
    stand = Stand()
    stand.beat()
    stand.answered("ps")
    stand.look()
    stand.ring(1.0)
    stand.answered(problem="connection reset")
    stand.ring(30.0)
    assert [beats[0].answer for _, beats in stand.asked] == ["", "saw ps", "saw ps"]


def test_a_question_that_is_only_repeated_hurries_nobody() -> None:
    """PanDA sends its command with every answer, for as long as a job is in debug mode."""
    stand = Stand()
    stand.beat()
    stand.answered("tail stdout")
    stand.look()
    stand.ring(1.0)
    stand.answered("tail stdout")
    stand.look()
    stand.ring(5.0)
    assert len(stand.asked) == 2
    stand.beat()
    assert stand.asked[-1][1][0].answer == "saw tail stdout"
    stand.answered()
    stand.beat()
    stand.answered("tail stdout")
    stand.look()
    stand.ring(1.0)
    assert len(stand.asked) == 5, "asked anew after a pause, it hurries again"


def test_an_answer_that_comes_while_a_heartbeat_is_under_way_goes_with_the_next() -> None:
    stand = Stand()
    stand.beat()
    stand.answered("ps")
    stand.beat()
    stand.look()
    stand.ring(2.0)
    assert len(stand.asked) == 2
    stand.answered()
    stand.ring(0.0)
    assert [beats[0].answer for _, beats in stand.asked] == ["", "", "saw ps"]


def test_a_question_that_breaks_is_answered_with_the_reason() -> None:
    stand = Stand()
    broken: list[Callable[[Fault], None]] = []
    stand.crew = cast(Crew, SimpleNamespace(beat=lambda action, _: action(), see=lambda _, broke: broken.append(broke)))
    stand.beat()
    stand.answered("ps")
    broken[0](fault(Code.PILOT_BUG, "boom"))
    stand.ring(1.0)
    assert stand.asked[-1][1][0].answer == "the pilot met something it did not expect: boom"


def test_an_adoption_is_asked_until_it_is_heard() -> None:
    """A plain heartbeat would leave the attempt with the pilot that died."""
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0, certain=False)
    stand.beat(adopting=True)
    stand.answered(problem="refused")
    assert stand.tenure.unheard()
    stand.ring(30.0)
    stand.answered()
    assert not stand.tenure.unheard()
    stand.beat()
    assert [verb for verb, _ in stand.asked] == ["adopt", "adopt", "renew"]


def test_what_is_over_is_forgotten() -> None:
    stand = Stand()
    stand.beat()
    stand.answered("ps")
    stand.look()
    stand.tenure.forget("k")
    assert stand.tenure.leases.next_beat() is None
    stand.beat()
    assert stand.asked[-1][1][0].answer == ""


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    leases = Leases()
    leases.ask("k", 100.0)
    leases.grant("k", 125.0, 60.0)
    assert leases.trusted("k", 149.0)
    assert not leases.trusted("k", 150.0)
    assert leases.next_loss() == 760.0
    leases.grant("other", 125.0, 60.0)
    assert leases.next_loss() == 760.0, "one that nobody asked for counts from when it came"


def _ringing(stand: Stand, seconds: float) -> None:
    stand.tenure.plan(stand.beat, lambda: None)
    stand.ring(seconds)


def test_only_the_queue_s_word_or_a_very_long_silence_ends_an_attempt() -> None:
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    for _ in range(655):
        _ringing(stand, 1.0)
        if stand.tenure._beating:
            stand.answered(problem="connection refused")
    assert (stand.facts, stand.tenure.leases.trusted("k", stand.now)) == ([], False)
    assert len(stand.asked) > 50
    for _ in range(6):
        _ringing(stand, 1.0)
    assert stand.facts == [End("k", Cause.FENCED, LEASE_LOST)]


def test_a_late_renewal_makes_an_attempt_certain_again() -> None:
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    _ringing(stand, 20.0)
    stand.answered(problem="connection refused")
    _ringing(stand, 400.0)
    assert not stand.tenure.leases.trusted("k", stand.now)
    stand.answered()
    assert (stand.facts, stand.tenure.leases.trusted("k", stand.now)) == ([], True)


def test_a_refusal_ends_an_attempt_however_late() -> None:
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    stand.ring(300.0)
    assert not stand.tenure.settle("k", BeatReply("7", 1, False), stand.now)
    assert [(each.cause, each.fault and each.fault.code) for each in stand.facts if isinstance(each, End)] == [
        (Cause.FENCED, Code.SERVER_REFUSED)
    ]


def test_silence_counts_anew_after_a_suspension() -> None:
    """Nobody asked while the pilot was suspended, so the queue was not silent."""
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    _ringing(stand, 86400.0)
    assert (stand.facts, len(stand.asked)) == ([], 1)
    assert not stand.tenure.leases.trusted("k", stand.now)
    stand.answered(problem="the network is not back yet")
    _ringing(stand, 599.0)
    assert stand.facts == []
    _ringing(stand, 1.0)
    assert stand.facts == [End("k", Cause.FENCED, LEASE_LOST)]


def test_what_was_used_never_becomes_less() -> None:
    first = Vitals('{"step":1}', Usage(5.0, 100, 1.0, 9))
    assert later(None, first) == first
    assert later(first, Vitals("", Usage(3.0, 200))) == Vitals('{"step":1}', Usage(5.0, 200, 1.0, 9))


def test_a_change_of_phase_is_told_soon_and_not_too_often() -> None:
    stand = Stand(phase_pause=2.0)
    stand.tenure.leases.take("k", stand.now, 60.0)

    def ring(seconds: float) -> int:
        stand.tenure.plan(stand.beat, lambda: None)
        stand.ring(seconds)
        return len(stand.asked)

    stand.tenure.moved()
    assert ring(0.0) == 1, "the first one at once"
    stand.tenure.moved()
    assert ring(1.0) == 1, "one heartbeat at a time"
    stand.answered()
    assert ring(0.9) == 1
    assert ring(0.1) == 2
    stand.answered(problem="connection reset")
    stand.tenure.moved()
    assert ring(0.1) == 2, "a queue that does not answer is not pressed"


def test_a_queue_that_does_not_want_to_know_is_not_told_by_itself() -> None:
    stand = Stand()
    stand.tenure.leases.take("k", stand.now, 60.0)
    stand.tenure.moved()
    stand.tenure.plan(stand.beat, lambda: None)
    stand.ring(19.0)
    assert stand.asked == []
