"""A real PanDA server as the bed of the contract of queues."""

from collections.abc import Sequence
from dataclasses import dataclass

from pilot.adapters.credentials_token import NoCredential
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_panda import PandaServer
from pilot.model.capability import Capabilities
from pilot.model.queue import JobRow, JobState, Submission
from pilot.ports import Server
from pilot.wire.places import Endpoint
from pilot.wire.site import Site
from tests.beds.panda import PandaBed
from tests.beds.panda_jobs import RSE, SITE, PandaJob
from tests.contracts.panda_losses import LOSSES
from tests.contracts.server_beds import LEASE

STANDING = {"activated": JobState.WAITING, "defined": JobState.WAITING}
VERDICTS = {"finished": "succeeded", "failed": "failed", "cancelled": "cancelled"}


@dataclass(frozen=True)
class Seen:
    """As much of a job's view as the contract asks for here."""

    job: JobRow


class PandaUser:
    """Hands jobs in and looks at them, by the names of the contract."""

    def __init__(self, bed: PandaBed, numbers: dict[str, int]) -> None:
        self._bed = bed
        self._numbers = numbers

    def add(self, jobs: Sequence[Submission]) -> list[JobRow]:
        return [self._added(each) for each in jobs]

    def _added(self, submission: Submission) -> JobRow:
        spec = submission.spec
        more = {"coreCount": spec.needs[0].cpus}
        job = PandaJob("/bin/true", name=spec.name, priority=3000 + spec.priority, more=more)
        self._numbers[spec.name] = self._bed.submit(job)
        return self.show(spec.name).job

    def show(self, job: str) -> Seen:
        number = self._numbers[job]
        state = self._bed.state(number)
        if state == "holding" and self._reported(number) == "failed":
            state = self._bed.run_adder(number)
        # The adder's word on a success needs files, which the reports of the contract do not have.
        verdict = "succeeded" if state == "holding" else VERDICTS.get(state, "")
        standing = JobState.DONE if verdict else STANDING.get(state, JobState.GRANTED)
        return Seen(JobRow(str(number), 1, job, "owner", standing, verdict))

    def _reported(self, number: int) -> str:
        sql = "SELECT jobStatus FROM DOMA_PANDA.Job_Output_Report WHERE PandaID = %s"
        return str(self._bed.execute(sql, number)[0]["jobstatus"])

    def cancel(self, jobs: Sequence[str]) -> None:
        for each in jobs:
            self._bed.kill(self._numbers[each])


class PandaRules:
    """Which promises are kept by a plain PanDA server, real or not."""

    def can(self, promise: str) -> bool:
        """Whether a promise of that name is kept here."""
        return promise not in LOSSES


class PandaContractBed(PandaRules):
    """One test's pilots and users on a server that several tests share."""

    def __init__(self, bed: PandaBed) -> None:
        bed.clear()
        self._bed = bed
        self._numbers: dict[str, int] = {}
        self._servers: list[Server] = []

    def pilot(self, node: Capabilities | None = None) -> Server:
        endpoints = {RSE: Endpoint(self._bed.storage.as_uri(), self._bed.storage.as_uri())}
        site = Site("BED", "BED", SITE, "node", lease_seconds=LEASE, output=RSE, endpoints=endpoints, version="1.0")
        made = PandaServer(HttpLine(self._bed.url, NoCredential(), Gate()), site, node=node)
        self._servers.append(made)
        return made

    def user(self, name: str = "owner") -> PandaUser:
        return PandaUser(self._bed, self._numbers)

    def close(self) -> None:
        for each in self._servers:
            each.close()
