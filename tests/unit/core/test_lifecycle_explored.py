"""Everything that can happen to a job, and to two jobs with one share; and mistakes that the same search catches."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pilot.core import lifecycle, rows, steps
from pilot.model import facts
from pilot.model.facts import Ending, Fact
from pilot.model.files import What
from pilot.model.job import Cause, Job, JobSpec, Phase, Verdict
from pilot.model.orders import GiveBack, Kind
from tests.unit.core.explorer import Setting, explore
from tests.unit.core.laws import Broken

PLAIN = JobSpec("n", ("true",))
VALIDATED = JobSpec("n", ("true",), validate=("check",))

FEWER = Setting(
    VALIDATED, causes=(Cause.PREEMPTED, Cause.FENCED, Cause.CANCELLED)
)  # enough for most mistakes, and quick
LEAST = Setting(VALIDATED, causes=(Cause.TIME_UP,), breaks=False, checkpoints=False, endings=("well",))  # all phases
STORING = Setting(PLAIN, causes=(), checkpoints=False, endings=("well",))
Record = Callable[[str, object], None]

ONE_JOB = {"without a validate step": Setting(PLAIN), "with one": Setting(VALIDATED)}
TWO_JOBS = {
    "any share, one crash, fenced": Setting(PLAIN, 2, (Cause.FENCED,), 1, False, False, ("well", "well-left")),
    "validated, one crash, preempted": Setting(VALIDATED, 2, (Cause.PREEMPTED,), 1, False, False, ("well",)),
    "parked, one crash, time up": Setting(PLAIN, 2, (Cause.TIME_UP,), 1, False, False, ("well",)),
}


@pytest.mark.parametrize("name", ONE_JOB)
def test_one_job_any_news_any_answer_any_crashes(
    name: str, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[object] = set()
    for key, row in list(lifecycle.TABLE.items()):
        monkeypatch.setitem(lifecycle.TABLE, key, _watched(used, key, row))
    found = explore(ONE_JOB[name])
    record_property("states", found.states)
    record_property("transitions", found.transitions)
    never = {Phase.VALIDATING} if name.startswith("without") else set()
    assert found.phases == set(Phase) - never
    assert used == {key for key in lifecycle.TABLE if key[0] not in never}, "every row of the table is used"
    assert {verdict for verdict, queue in found.ends if queue == "reported"} == set(Verdict)
    assert {(None, "unknown"), (None, "returned"), (None, "lost")} <= found.ends
    assert found.states > 10_000


@pytest.mark.parametrize("name", TWO_JOBS)
def test_two_jobs_and_one_share(name: str, record_property: Record) -> None:
    found = explore(TWO_JOBS[name])
    record_property("states", found.states)
    record_property("transitions", found.transitions)
    assert (Verdict.SUCCEEDED, "reported") in found.ends
    assert found.states > 10_000


def _watched(used: set[object], key: object, row: lifecycle.Row) -> lifecycle.Row:
    def watched(job: Job, fact: Fact) -> steps.Step:
        used.add(key)
        return row(job, fact)  # type: ignore[arg-type]

    return watched


# --- planted mistakes -------------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]


def _row(phase: Phase, event: lifecycle.Event, row: Callable[[Job, Fact], steps.Step]) -> Plant:
    return lambda monkeypatch: monkeypatch.setitem(lifecycle.TABLE, (phase, event), row)


def _no_row(phase: Phase, event: lifecycle.Event) -> Plant:
    return lambda monkeypatch: monkeypatch.delitem(lifecycle.TABLE, (phase, event))


def _in_rows(name: str, wrong: object) -> Plant:
    return lambda monkeypatch: monkeypatch.setattr(rows, name, wrong)


def _supersedes(kind: Kind, *others: Kind) -> Plant:
    return lambda monkeypatch: monkeypatch.setitem(steps.SUPERSEDES, kind, frozenset(others))


def _share_forgotten(job: Job, gone: bool) -> steps.Step:
    return steps.free_share(job, gone)[0], ()


def _share_never_retired(job: Job, gone: bool) -> steps.Step:
    freed, orders = steps.free_share(job, gone)
    return freed, tuple(replace(each, retire=False) for each in orders if isinstance(each, GiveBack))


def _share_given_at_once(job: Job, fact: Fact) -> steps.Step:
    assert isinstance(fact, facts.End)
    freed, orders = steps.free_share(job, True)
    return steps.after(orders, rows.stop(freed, fact))


def _share_given_twice(job: Job, fact: Fact) -> steps.Step:
    return steps.after((GiveBack(job.key),), steps.report(job))


def _stopped_taken_for_exited(job: Job, fact: Fact) -> steps.Step:
    return rows.judge_exit(job, facts.Exited(job.key, 0, Ending("started", exit_code=0)))


def _validation_skipped(job: Job, fact: Fact) -> steps.Step:
    assert isinstance(fact, facts.Exited)
    freed, orders = steps.free_share(job, fact.ending.gone)
    well = fact.ending.exit_code == 0
    if job.cause is Cause.FENCED:
        return steps.after(orders, steps.vanish(freed, job.fault))
    verdict = Verdict.SUCCEEDED if well else Verdict.FAILED
    return steps.after(orders, steps.store(freed, What.ALL if well else What.LOGS, verdict))


def _lost_and_still_a_success(job: Job, fact: Fact) -> steps.Step:
    return steps.order(replace(job, keeps=What.LOGS), Kind.STORE, What.LOGS)


def _parked_goes_back(job: Job, fact: Fact) -> steps.Step:
    return steps.store(steps.forgotten(job), job.keeps, Verdict.SUCCEEDED)


def _last_verdict_stands(
    job: Job, phase: Phase, verdict: Verdict | None = None, why: object = None
) -> Job:  # as `steps.move`, but for the first verdict
    return replace(job, phase=phase, verdict=verdict or job.verdict, fault=why or job.fault)  # type: ignore[arg-type]


def _refusal_forgotten(job: Job, fact: Fact) -> steps.Step:
    assert isinstance(fact, facts.Granted)
    if fact.grant.refusal is None:
        return rows.fetch(job, fact)
    return steps.order(replace(job, grant=fact.grant, phase=Phase.CLOSED), Kind.SWEEP)


def _any_ticket(job: Job, fact: Fact) -> Kind | None:
    return next((kind for kind, _ in job.open), None) if isinstance(fact, facts.Answer) else None


def _no_fresh_ticket(job: Job, kind: Kind, what: What = What.ALL) -> steps.Step:
    opened, orders = _ORDER(job, kind, what)
    return replace(opened, tickets=job.tickets), orders


_ORDER = steps.order

MISTAKES: dict[str, tuple[str, Plant]] = {
    "a share is forgotten": (".", _in_rows("free_share", _share_forgotten)),
    "a spoilt share is offered again": ("retired", _in_rows("free_share", _share_never_retired)),
    "a share comes back while the payload runs": (
        "what runs holds a share",
        _row(Phase.RUNNING, facts.End, _share_given_at_once),
    ),
    "a share comes back twice": ("only a held share", _row(Phase.STAGING_OUT, facts.Stored, _share_given_twice)),
    "a share that came too late is kept": ("at the end the share is back", _no_row(Phase.CLOSED, facts.Go)),
    "a fenced job is reported": ("no external write", _in_rows("vanish", lambda job, why: steps.report(job))),
    "a fenced job goes on storing": ("fenced: writes", _supersedes(Kind.SWEEP)),
    "a store that broke counts as stored": (
        "no success without stored outputs",
        _row(Phase.STAGING_OUT, Kind.STORE, rows.close_stored),  # type: ignore[arg-type]
    ),
    "a stored checkpoint is taken for stored outputs": (
        "writes are abandoned|without stored outputs",
        _supersedes(Kind.STORE, Kind.FETCH),
    ),
    "lost outputs and still a success": (
        "a success keeps all outputs",
        _row(Phase.STAGING_OUT, Kind.STORE, _lost_and_still_a_success),
    ),
    "stopped is taken for exited": (".", _row(Phase.STOPPING, facts.Stopped, _stopped_taken_for_exited)),
    "validation is skipped": ("no success without validation", _row(Phase.RUNNING, facts.Exited, _validation_skipped)),
    "a claim without an answer is forgotten": (
        "given back",
        _row(Phase.CLAIMING, Kind.CLAIM, rows.close_empty),  # type: ignore[arg-type]
    ),
    "a claim that is not wanted is forgotten": (
        "abandoned by name",
        _row(Phase.CLAIMING, facts.End, lambda job, fact: (replace(job, phase=Phase.CLOSED, open=()), ())),
    ),
    "a job handed back is not returned": (
        "reported, returned or fenced",
        _in_rows("give_up", lambda job: steps.order(replace(job, phase=Phase.CLOSED), Kind.SWEEP)),
    ),
    "what is no job is forgotten": (
        "reported, returned or fenced",
        _row(Phase.CLAIMING, facts.Granted, _refusal_forgotten),
    ),
    "a report is not repeated": ("the queue knows", _no_row(Phase.CLOSED, Kind.REPORT)),
    "parked outputs are never tried again": ("stuck", _no_row(Phase.PARKED, facts.RetryDue)),
    "a phase goes back": ("phases never go back", _row(Phase.PARKED, facts.Recovered, _parked_goes_back)),
    "the last verdict stands": ("the first verdict stands", _row(Phase.STAGING_OUT, facts.End, lambda job, fact: (
        _last_verdict_stands(job, job.phase, Verdict.CANCELLED), ()))),
    "any ticket will do": (".", lambda monkeypatch: monkeypatch.setattr(lifecycle, "_answered", _any_ticket)),
    "tickets are used again": ("tickets are", _in_rows("order", _no_fresh_ticket)),
    **{
        f"a crash while {phase.value} is not told": ("stuck", _no_row(phase, facts.Recovered))
        for phase, event in lifecycle.TABLE
        if event is facts.Recovered and phase is not Phase.CLAIMING
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_the_search_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    law, plant = MISTAKES[name]
    plant(monkeypatch)
    with pytest.raises(Broken, match=law):
        explore({"a crash": LEAST, "parked ": STORING}.get(name[:7], FEWER))
