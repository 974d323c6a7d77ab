"""Points of `phpo` tasks: drawn when a job is claimed, settled when it is reported; nothing of it is the payload's."""

from dataclasses import replace

from pilot.adapters.server_line import Line
from pilot.adapters.server_panda_told import said_no
from pilot.model.faults import Code, fault
from pilot.model.job import Verdict
from pilot.model.report import Report
from pilot.wire import points
from pilot.wire.envelope import Reply, WireError, shown
from pilot.wire.points import Point
from pilot.wire.reading import Record
from pilot.wire.receipt import read_receipt


class Points:
    """Event ranges of the server and points of iDDS, both over one line: the server passes on what is for iDDS."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def draw(self, definition: Record) -> Point:
        """A point that nobody has evaluated; an empty one where none is left. Raises PortError."""
        try:
            for _ in range(points.MOST_DRAWN):
                event = points.drawn(self._ask(points.ACQUIRE, points.draw(definition)))
                if not event:
                    break
                point = points.point_of(self._ask(points.RELAY, points.look_up(definition, event)), event)
                if point.loss is None:
                    return point
                self._ask(points.SETTLE, points.settle(event))
        except WireError as problem:
            raise said_no(self._line, points.ACQUIRE, problem) from None
        return Point()

    def settled(self, report: Report) -> Report:
        """The report, once its loss is where it belongs; a job whose loss nobody takes has not succeeded."""
        receipt = read_receipt(report.receipt)
        if not receipt.event or report.verdict is not Verdict.SUCCEEDED:
            return report
        loss = points.loss_in(report.message)
        if loss is None:
            return _failed(report, "the job left no loss in its result")
        reply = self._ask(points.RELAY, points.tell_loss(receipt.task, receipt.event, loss))
        if not reply.success:
            return _failed(report, f"iDDS did not take the loss {loss:g}: {shown(reply.message)}")
        self._ask(points.SETTLE, points.settle(receipt.event))
        return report

    def _ask(self, path: str, arguments: points.Arguments) -> Reply:
        return self._line.call("POST", path, arguments)


def _failed(report: Report, why: str) -> Report:
    return replace(report, verdict=Verdict.FAILED, fault=fault(Code.SERVER_REFUSED, why))
