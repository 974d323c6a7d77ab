"""The life of a job: one table, and the theory it stands on.

A job is a value; a fact comes in; `advance` returns the next value and the orders that follow. Nothing else in
the program decides what happens to a job. The same function tells the story again from the journal after a
crash, so it knows no clock, no file and no chance. `core/rows` says what each row does, `core/steps` what the
rows are made of.

Two fields, not one. The *phase* says where a job stands and only ever moves forward, in the order of `Phase`.
The *verdict* says how it ended; the first verdict stands, but for one change: a success whose outputs are lost
becomes a failure. Between the two stands the *cause*: why we asked a job to end early. A cause is no verdict,
because a payload that ends well while it is being stopped has succeeded.

Tickets. Every order carries a number; the job remembers its open orders by kind. An answer whose ticket is not
the open one is dropped: it answers something that we gave up, or a pilot that has died. *stop* is answered
`Stopped`; `Exited` only ever answers *start* or *adopt*. So a stop that is late, or a payload that ends by itself
in that moment, cannot be taken for one another.

Claims. A claim whose answer was lost may have been granted all the same. Such a job stays *claiming*, with no
order open, until the steward asks again under the same claim id, or ends it, which gives the claim back by its id.

Waiting for the end. While a process of the job may run (running, stopping, validating) nothing but that
process's own end moves the job on: a cause is noted, the stop is ordered, and the answer of the order that
started the process is awaited. Only then, when the process tree is proven gone, is the share given back, once.
If it cannot be proven gone, the job is *tainted*: its share is retired and not offered again. A share that was
given to a job which had meanwhile ended goes back at once.

Fenced. A job that the queue says is not ours belongs to somebody else; one whose lease was not renewed for very
long is given up as if it did. It orders no external write any more: no store, no report, no return; it is swept
and closed. A job that has closed before is not touched: its report is a question to the queue, which knows the
newest attempt and refuses an older one.

Time. *preempted* stops what runs and leaves what is being stored alone. *time-up* also ends the storing: good
outputs are parked beside their manifest for the next pilot, anything else is reported without its files.

Recovery. A pilot that died leaves a journal of facts. Folding them gives the job as it stood; the fact
`Recovered` voids the open orders and gives them again: claims with the same claim id, fetches that keep
verified files, the adoption of a payload that the supervisor still holds, the same store order (create-only and
checked, so twice is once).

Every order is answered, so no phase needs a watchdog of its own: the loop answers `Broke` for an order whose
deadline has passed.
"""

from collections.abc import Callable
from typing import Never, cast

from pilot.core import rows
from pilot.core.steps import Step
from pilot.model import facts
from pilot.model.copies import replace
from pilot.model.facts import Answer, Broke, Fact
from pilot.model.job import Job, Phase
from pilot.model.orders import Kind

Event = type | Kind  # the type of a fact; for `Broke`, the kind of the order that broke
Row = Callable[[Job, Never], Step]  # each row takes the facts that its key names


def advance(job: Job, fact: Fact) -> Step:
    """The job after that fact, and the orders that follow; a fact without a row changes nothing."""
    kind = _answered(job, fact)
    if isinstance(fact, Answer) and kind is None:
        return job, ()
    event = kind if isinstance(fact, Broke) else type(fact)
    row = TABLE.get((job.phase, cast(Event, event)))
    closed = replace(job, open=tuple(each for each in job.open if each[0] is not kind)) if kind else job
    return row(closed, cast(Never, fact)) if row else (closed, ())


def _answered(job: Job, fact: Fact) -> Kind | None:
    """The kind of the open order that this fact answers, if it answers one."""
    if not isinstance(fact, Answer):
        return None
    return next((kind for kind, ticket in job.open if ticket == fact.ticket), None)


TABLE: dict[tuple[Phase, Event], Row] = {
    (Phase.CLAIMING, facts.Claiming): rows.ask,
    (Phase.CLAIMING, facts.Granted): rows.fetch,
    (Phase.CLAIMING, facts.Nothing): rows.close_empty,
    (Phase.CLAIMING, Kind.CLAIM): rows.stay,
    (Phase.CLAIMING, facts.End): rows.return_claim,
    (Phase.CLAIMING, facts.Recovered): rows.ask_again,
    (Phase.STAGING_IN, facts.Arrived): rows.become_ready,
    (Phase.STAGING_IN, Kind.FETCH): rows.fail_early,
    (Phase.STAGING_IN, facts.End): rows.end_early,
    (Phase.STAGING_IN, facts.Recovered): rows.fetch_again,
    (Phase.READY, facts.Go): rows.start,
    (Phase.READY, facts.Unfit): rows.decline,
    (Phase.READY, facts.End): rows.end_early,
    (Phase.RUNNING, facts.Exited): rows.judge_exit,
    (Phase.RUNNING, Kind.START): rows.lose_payload,
    (Phase.RUNNING, Kind.ADOPT): rows.lose_payload,
    (Phase.RUNNING, facts.End): rows.stop,
    (Phase.RUNNING, facts.CheckpointDue): rows.checkpoint,
    (Phase.RUNNING, facts.Saved): rows.store_checkpoint,
    (Phase.RUNNING, facts.Recovered): rows.adopt,
    (Phase.STOPPING, facts.Exited): rows.judge_exit,
    (Phase.STOPPING, Kind.START): rows.lose_payload,
    (Phase.STOPPING, Kind.ADOPT): rows.lose_payload,
    (Phase.STOPPING, Kind.STOP): rows.note_stop_broke,
    (Phase.STOPPING, facts.End): rows.stop_again,
    (Phase.STOPPING, facts.Recovered): rows.adopt_and_stop,
    (Phase.VALIDATING, facts.Validated): rows.judge_validation,
    (Phase.VALIDATING, Kind.VALIDATE): rows.lose_validation,
    (Phase.VALIDATING, Kind.STOP): rows.note_stop_broke,
    (Phase.VALIDATING, facts.End): rows.stop_again,
    (Phase.VALIDATING, facts.Recovered): rows.validate_again,
    (Phase.STAGING_OUT, facts.Stored): rows.close_stored,
    (Phase.STAGING_OUT, Kind.STORE): rows.park_or_lose,
    (Phase.STAGING_OUT, facts.End): rows.end_storing,
    (Phase.STAGING_OUT, facts.Recovered): rows.store_again,
    (Phase.STAGING_OUT, facts.Go): rows.refuse_share,
    (Phase.PARKED, facts.Stored): rows.close_stored,
    (Phase.PARKED, Kind.STORE): rows.park_or_lose,
    (Phase.PARKED, facts.RetryDue): rows.retry_parked,
    (Phase.PARKED, facts.End): rows.end_parked,
    (Phase.PARKED, facts.Recovered): rows.store_again,
    (Phase.CLOSED, Kind.REPORT): rows.report_again,
    (Phase.CLOSED, facts.Recovered): rows.repeat_last_words,
    (Phase.CLOSED, facts.Go): rows.refuse_share,
}
