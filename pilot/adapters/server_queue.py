"""The queue of `pilot queue serve` as its users use it: the `Queue` port over our own calls.

Whose a job is, the server reads in the token; nothing that is said here changes that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pilot.adapters.server_answer import Oversized
from pilot.adapters.server_calls import Calls
from pilot.model.faults import Code
from pilot.model.plain import to_plain
from pilot.model.queue import Explanation, JobRow, JobState, JobView, QueueSettings, Submission, Sweep
from pilot.model.report import Report
from pilot.ports import Final
from pilot.wire.calls import ADD_CAP, BATCH_CAP, PAGE_ROWS

ADD_SECONDS = 300.0  # a sweep of many jobs
PAGE_REPORTS = 64


@dataclass(frozen=True, slots=True)
class LogPart:
    """What a log holds from some place on, where to go on reading, and whether more may come."""

    text: str
    offset: int
    live: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """A question to a running job, and the answer; "" until a heartbeat brought it."""

    question: str
    answer: str


class OwnQueue:
    """One user's view of a served queue."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def add(self, jobs: Sequence[Submission]) -> Sequence[JobRow]:
        """Takes all of them or none; archives go first, each once."""
        if len(jobs) > ADD_CAP:
            why = f"{len(jobs)} jobs at once: add {ADD_CAP} at most, or a sweep, which may have any number"
            raise Final(Code.JOB_INVALID, why)
        archives = {each.spec.code.sha256: each.code for each in jobs if each.spec.code is not None}
        for sha256, archive in archives.items():
            self._calls.put_code(sha256, archive)
        plain = [{"spec": to_plain(each.spec), "job_id": each.job_id} for each in jobs]
        return self._rows("add", {"jobs": plain}, ADD_SECONDS)

    def add_sweep(self, template: Submission, parameters: Iterable[Mapping[str, str]]) -> Sweep:
        """Takes a job for each mapping, or none: the description goes once, and a row of values for each job."""
        rows = list(parameters)
        names = list(rows[0]) if rows else []
        odd = next((number for number, each in enumerate(rows, 1) if each.keys() != set(names)), 0)
        if odd:
            why = f"job {odd} of the sweep: other parameters than the first job's"
            raise Final(Code.JOB_INVALID, f"{template.spec.name}: {why}")
        if template.spec.code is not None:
            self._calls.put_code(template.spec.code.sha256, template.code)
        plain = {"spec": to_plain(template.spec), "job_id": template.job_id}
        values = [[each[name] for name in names] for each in rows]
        return self._calls.ask("add_sweep", Sweep, {"template": plain, "names": names, "rows": values}, ADD_SECONDS)

    def find(
        self, states: Sequence[JobState] = (), owner: str = "", limit: int = 0, after: str = ""
    ) -> Sequence[JobRow]:
        """The jobs in those states (none given: all) of that owner, in order of arrival; read page by page."""
        found: list[JobRow] = []
        asked = {"states": [each.value for each in states], "owner": owner}
        while True:
            size = min(PAGE_ROWS, limit - len(found)) if limit else PAGE_ROWS
            page = self._rows("find", {**asked, "limit": size, "after": found[-1].job_id if found else after})
            found += page
            if len(page) < size or len(found) == limit:
                return found

    def show(self, job: str) -> JobView:
        """One job in full."""
        return self._calls.ask("show", JobView, {"job": job})

    def results(self, job: str) -> Sequence[Report]:
        """The reports of all its attempts, the last one last."""
        found: list[Report] = []
        size = PAGE_REPORTS
        while True:
            asked = {"job": job, "skip": len(found), "limit": size}
            try:
                page = self._calls.ask("results", tuple[Report, ...], asked)
            except Oversized:
                if size == 1:
                    raise
                size //= 2
                continue
            found += page
            if len(page) < size:
                return found

    def explain(self, job: str) -> Explanation:
        """Why it stands where it stands."""
        return self._calls.ask("explain", Explanation, {"job": job})

    def hold(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """Not to be given out (again) until released; what runs now runs on."""
        return self._changed("hold", jobs)

    def release(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """May be given out again."""
        return self._changed("release", jobs)

    def cancel(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """To be ended: at once where they wait, through the heartbeat where they run."""
        return self._changed("cancel", jobs)

    def checkpoint(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """Running jobs are to write a checkpoint now, through the heartbeat."""
        return self._changed("checkpoint", jobs)

    def settings(self) -> QueueSettings:
        """The queue's name, owner, state and defaults."""
        return self._calls.ask("settings", QueueSettings, {})

    def log(self, job: str, which: str, offset: int) -> LogPart:
        """What that log of a job holds from there on, as far as the service can read it."""
        return self._calls.ask("log", LogPart, {"job": job, "which": which, "offset": offset})

    def put_question(self, job: str, question: str) -> None:
        """Asks for a look into a running job's directory; the next heartbeat carries it."""
        self._calls.ask("ask", object, {"job": job, "question": question})

    def answer(self, job: str) -> Answered:
        """What the last question brought to light."""
        return self._calls.ask("answer", Answered, {"job": job})

    def close(self) -> None:
        """Lets go of connections."""
        self._calls.close()

    def _changed(self, verb: str, jobs: Sequence[str]) -> Sequence[JobRow]:
        """As many at once as one call takes; done twice it is done once."""
        parts = [jobs[start : start + BATCH_CAP] for start in range(0, len(jobs), BATCH_CAP)] or [jobs]
        return [each for part in parts for each in self._rows(verb, {"jobs": list(part)})]

    def _rows(self, verb: str, arguments: Mapping[str, object], seconds: float = 0.0) -> Sequence[JobRow]:
        return self._calls.ask(verb, tuple[JobRow, ...], arguments, seconds)
