"""The service's own counting: what pilots asked and were answered, how long it took, whose faults were reported.

Labels are of small, fixed sets: calls, verdicts, parties, codes. A job, a pilot or a user is never a label here.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from pilot import __version__
from pilot.model.faults import REGISTRY, Fault
from pilot.model.job import Grant, Verdict
from pilot.model.report import Report
from pilot.ports import BeatReply

FAULTS_KEPT = 50
CALL_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
COMMIT_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class FaultSeen:
    """One fault as it was reported: when (UTC epoch seconds), of which attempt, on which pilot."""

    at: float
    job_id: str
    name: str
    attempt: int
    pilot: str
    fault: Fault
    owner: str = ""


class Meter:
    """Counters of one service, and the last faults that it was told of."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody asked for
        self.registry = CollectorRegistry(auto_describe=False)
        self._lock = threading.Lock()
        self._faults: deque[FaultSeen] = deque(maxlen=FAULTS_KEPT)
        self._granted = 0
        self._count_calls()
        self._count_answers()
        self._describe()

    def answered(self, call: str, status: int, seconds: float) -> None:
        """One call of the route table was answered."""
        name = call.rpartition("/")[2] or "page"
        self.requests.labels(name, f"{status // 100}xx").inc()
        self.latency.labels(name).observe(seconds)

    def worked(self, kind: str, items: int, seconds: float) -> None:
        """One piece of the database thread's work was done for so many items."""
        self.work.labels(kind).observe(seconds)
        self.items.labels(kind).inc(items)

    def claimed(self, answers: Sequence[Grant | None]) -> None:
        """Claims were answered."""
        given = sum(each is not None for each in answers)
        self.claims.labels("granted").inc(given)
        self.claims.labels("nothing").inc(len(answers) - given)
        with self._lock:
            self._granted += given

    def renewed(self, answers: Sequence[BeatReply]) -> None:
        """Leases were renewed, or refused to those who have lost them."""
        ours = sum(each.ours for each in answers)
        self.renewals.labels("ours").inc(ours)
        self.renewals.labels("fenced").inc(len(answers) - ours)

    def reported(self, reports: Sequence[Report], answers: Sequence[bool], owners: Sequence[str] = ()) -> None:
        """Reports were recorded, or refused because the attempt is somebody else's; `owners` of the jobs, if known."""
        now = time.time()
        for number, (report, taken) in enumerate(zip(reports, answers, strict=True)):
            self.reports.labels(report.verdict.value, "yes" if taken else "no").inc()
            if taken and report.fault is not None:
                self._note(report, report.fault, now, owners[number] if number < len(owners) else "")

    def returned(self, count: int) -> None:
        """Claims were given back untouched."""
        self.returns.inc(count)

    def expired(self, count: int = 1) -> None:
        """Leases ran out."""
        self.expiries.inc(count)

    def handshake_failed(self) -> None:
        """Somebody who wanted to speak TLS with us could not."""
        self.handshakes.inc()

    def certified(self, until: float) -> None:
        """The server's certificate holds until then (UTC epoch seconds)."""
        self.certificate.set(until)

    def granted(self) -> int:
        """How many jobs this service has given out."""
        with self._lock:
            return self._granted

    def faults(self) -> tuple[FaultSeen, ...]:
        """The last ones, newest first."""
        with self._lock:
            return tuple(reversed(self._faults))

    def _note(self, report: Report, fault: Fault, now: float, owner: str) -> None:
        self.blames.labels(fault.party.value, fault.code.value).inc()
        seen = FaultSeen(now, report.job_id, report.name, report.attempt, report.pilot_id, fault, owner)
        with self._lock:
            self._faults.append(seen)

    def _count_calls(self) -> None:
        self.requests = Counter(
            "pilot_queue_requests", "Requests answered, by call and class of status.", ["call", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.latency = Histogram(
            "pilot_queue_request_seconds", "How long a request took; a long look waits on purpose.", ["call"],
            registry=self.registry, buckets=CALL_BUCKETS,
        )  # fmt: skip
        self.work = Histogram(
            "pilot_queue_transaction_seconds", "How long the queue file was in hand, sync included, by kind of work.",
            ["kind"], registry=self.registry, buckets=COMMIT_BUCKETS,
        )  # fmt: skip
        self.items = self._counter("transaction_items", "Items of grouped transactions, by kind of work.", "kind")

    def _count_answers(self) -> None:
        self.claims = self._counter("claims", "Claims answered: a job was granted, or nothing fits.", "answer")
        self.renewals = self._counter("renewals", "Heartbeats answered: ours, or fenced.", "answer")
        self.reports = self._counter("reports", "Reports, by verdict and whether they counted.", "verdict", "taken")
        self.blames = self._counter("faults", "Faults of recorded reports, by party and code.", "party", "code")
        for answer in ("granted", "nothing"):  # there from the start, so that a rate is known from the first one on
            self.claims.labels(answer)
        for answer in ("ours", "fenced"):
            self.renewals.labels(answer)
        for verdict in Verdict:
            self.reports.labels(verdict.value, "yes")
        for code, known in REGISTRY.items():  # so that the first fault is a step from 0, which `increase` sees
            self.blames.labels(known.party.value, code.value)
        self.returns = self._counter("returns", "Claims given back untouched.")
        self.expiries = self._counter("leases_expired", "Leases that ran out before they were renewed.")
        self.handshakes = self._counter("tls_failures", "TLS handshakes that failed.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"pilot_queue_{name}", text, labels, registry=self.registry)

    def _describe(self) -> None:
        started = Gauge("pilot_queue_start_time_seconds", "When the service started (UTC).", registry=self.registry)
        started.set_to_current_time()
        self.certificate = Gauge(
            "pilot_queue_certificate_end_time_seconds", "When the server's certificate ends (UTC); 0 = without TLS.",
            registry=self.registry,
        )  # fmt: skip
        build = Gauge("pilot_queue_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
