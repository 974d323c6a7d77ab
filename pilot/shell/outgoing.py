"""Orders on their way to the crew, once the facts behind them are on disk.

What is written outside waits until the lease is certain; a repeated report waits its turn; every order has a
deadline, after which the loop answers for the hand that did not come back.
"""

from collections.abc import Callable, Mapping
from functools import partial

from pilot.model.facts import Broke, Fact
from pilot.model.faults import Code, Fault, Party, fault
from pilot.model.job import Job
from pilot.model.orders import Kind, Order
from pilot.model.report import Report
from pilot.shell.alarms import Alarms
from pilot.shell.crew import Crew, Task
from pilot.shell.story import Held

_EXTERNAL = frozenset({Kind.STORE, Kind.STORE_CHECKPOINT})
_LIVE = frozenset({Kind.START, Kind.ADOPT, Kind.VALIDATE})


class Outgoing:
    """Hands orders out; `certain` says whether a job may write outside now, `renew` asks the queue."""

    def __init__(self, held: Mapping[str, Held], alarms: Alarms, apply: Callable[[Fact], None], grace: float) -> None:
        self._held = held
        self._alarms = alarms
        self._apply = apply
        self._grace = grace
        self._orders: list[Order] = []
        self._waiting: dict[tuple[str, Kind], Order] = {}
        self._certain: Callable[[str], bool] = lambda _: False

    def add(self, order: Order) -> None:
        """An order that goes out when the facts behind it are on disk."""
        self._orders.append(order)

    def pending(self) -> bool:
        """Whether any order waits to go out."""
        return bool(self._orders)

    def hand_out(self, crew: Crew, report: Callable[[Job], Report], certain: Callable[[str], bool]) -> bool:
        """Hands all of them out; True where one has to wait until its lease has been renewed."""
        orders, self._orders = self._orders, []
        self._certain = certain
        for order in orders:
            if order.kind in _EXTERNAL and not certain(order.key):
                self._waiting[order.key, order.kind] = order
            elif order.kind is Kind.REPORT:
                self._alarms.report_pause(order.key, partial(self._submit, order, crew, report))
            else:
                self._submit(order, crew, report)
        return bool(self._waiting)

    def renewed(self, key: str) -> None:
        """The lease is certain again: what waited for it goes out with the next hand-out."""
        self._orders += self.dropped(key)

    def dropped(self, key: str) -> list[Order]:
        """The orders of that job that were waiting for its lease wait no more."""
        return [self._waiting.pop(each) for each in list(self._waiting) if each[0] == key]

    def _submit(self, order: Order, crew: Crew, report: Callable[[Job], Report]) -> None:
        held = self._held.get(order.key)
        if held is None or held.job.ticket(order.kind) != order.ticket:
            return
        self._alarms.deadline(order, self._grace, lambda: self._deadline_passed(order, crew))
        drawn = report(held.job) if order.kind is Kind.REPORT else None
        crew.submit(Task(order, held.job, held.dossier, drawn, self._permission(order)))

    def _permission(self, order: Order) -> Callable[[], bool]:
        """A lease may also run out while something is being written, above all while the pilot is suspended."""
        return partial(self._certain, order.key) if order.kind in _EXTERNAL else lambda: True

    def _deadline_passed(self, order: Order, crew: Crew) -> None:
        crew.forget(order.key, order.ticket)
        code = Code.STOP_FAILED if order.kind is Kind.STOP else Code.PILOT_DEADLINE
        held = self._held.get(order.key)
        late = _transfer_late(order.kind, held.job) if held else None
        late = late or fault(code, f"{order.kind}: no answer in time")
        self._apply(Broke(order.key, order.ticket, order.kind, late))
        if order.kind is Kind.STOP:
            self._give_up_payload(order.key, crew)

    def _give_up_payload(self, key: str, crew: Crew) -> None:
        held = self._held.get(key)
        for kind, ticket in held.job.open if held else ():
            if kind in _LIVE:
                crew.forget(key, ticket)
                stuck = fault(Code.STOP_FAILED, "the payload could not be ended")
                self._apply(Broke(key, ticket, kind, stuck, gone=False))


def _transfer_late(kind: Kind, job: Job) -> Fault | None:
    """A transfer that hangs is its storage's matter: which it was of several cannot be told any more."""
    if job.grant is None:
        return None
    places = {
        Kind.FETCH: [each.url for each in job.spec.inputs],
        Kind.STORE: [each.url or each.to for each in job.spec.outputs],
    }
    named = [each for each in places.get(kind, []) if each]
    if not named:
        return None
    more = f" or one of {len(named) - 1} more" if named[1:] else ""
    return fault(Code.PILOT_DEADLINE, f"{kind}: not done in time: {named[0]}{more}", Party.SITE)
