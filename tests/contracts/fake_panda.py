"""The fake of a plain PanDA server as a bed of the contract of queues."""

from collections.abc import Sequence
from dataclasses import replace

from pilot.adapters.server_panda import PandaServer
from pilot.model.capability import Capabilities
from pilot.model.queue import JobRow, JobState, Submission
from pilot.ports import Server
from tests.contracts.plain_panda import STANDING, VERDICTS, PandaRules, Seen
from tests.contracts.server_beds import LEASE
from tests.fakes.panda import FINAL, Panda
from tests.unit.wire.recorded import SITE, definition


class FakePandaUser:
    """Hands jobs in and looks at them, by the names of the contract."""

    def __init__(self, panda: Panda, numbers: dict[str, int]) -> None:
        self._panda = panda
        self._numbers = numbers

    def add(self, jobs: Sequence[Submission]) -> list[JobRow]:
        return [self._added(each) for each in jobs]

    def _added(self, submission: Submission) -> JobRow:
        spec, number = submission.spec, len(self._panda.rows) + 1
        known = {"PandaID": number, "attemptNr": 1, "jobName": spec.name, "currentPriority": 3000 + spec.priority}
        self._panda.add(definition("echo", **known, coreCount=spec.needs[0].cpus))
        self._numbers[spec.name] = number
        return self.show(spec.name).job

    def show(self, job: str) -> Seen:
        number = self._numbers[job]
        row = self._panda.rows[number]
        told = [str(each["job_status"]) for each in row.updates if each["job_status"] in FINAL]
        state = told[0] if told else row.status
        if state == "failed" and row.command == "tobekilled":  # as the server's adder has it
            state = "cancelled"
        verdict = VERDICTS.get(state, "")
        standing = JobState.DONE if verdict else STANDING.get(state, JobState.GRANTED)
        return Seen(JobRow(str(number), 1, job, "owner", standing, verdict))

    def cancel(self, jobs: Sequence[str]) -> None:
        for each in jobs:
            self._panda.kill(self._numbers[each])


class FakePandaBed(PandaRules):
    """One test's pilots and users on a fake of its own."""

    def __init__(self) -> None:
        self._panda = Panda()
        self._numbers: dict[str, int] = {}

    def pilot(self, node: Capabilities | None = None) -> Server:
        return PandaServer(self._panda, replace(SITE, lease_seconds=LEASE), node=node)

    def user(self, name: str = "owner") -> FakePandaUser:
        return FakePandaUser(self._panda, self._numbers)
