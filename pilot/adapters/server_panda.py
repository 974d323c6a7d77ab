"""A plain PanDA server as the `Server` port: `api/v1`, nothing else, translated in `pilot/wire/`.

PanDA knows no claim id, no lease and no offer. What that costs, verb by verb, stands in docs/reference/panda.md.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from pilot.adapters.server_line import Line
from pilot.adapters.server_panda_order import WordOrder
from pilot.adapters.server_panda_points import Points
from pilot.adapters.server_panda_told import Told, moment, said_no
from pilot.model.capability import Capabilities, Offer
from pilot.model.faults import Code
from pilot.model.files import CodePack
from pilot.model.job import Grant, Phase
from pilot.model.report import Report
from pilot.ports import Beat, BeatReply, ClaimRequest, Final, PortError, Registration, Unclaim
from pilot.wire import asking, telling
from pilot.wire.asking import is_id
from pilot.wire.calls import ALIVE
from pilot.wire.definition import identity_of
from pilot.wire.envelope import Reply, WireError
from pilot.wire.grants import grant_of, refused
from pilot.wire.hearing import DONE, GONE, NOT_OURS, Heard
from pilot.wire.points import wants_point
from pilot.wire.queuedata import QueueData
from pilot.wire.reading import Record
from pilot.wire.site import Site
from pilot.wire.transforms import NO_POINT

PILOT = "/api/v1/pilot/"
RESOURCE_TYPES = "/api/v1/metaconfig/get_resource_types"
POLL_SECONDS, POLL_CAP_SECONDS = 2.0, 60.0  # there is no look at an empty queue: each one is a search by the server
ONE_JOB_SECONDS = 0.001  # PanDA's timefloor 0: one job for each pilot, not one that is asked for as long as it lives
PHASE_PAUSE_SECONDS = 2.0  # between a heartbeat and one that only tells of a change of phase
# Where PanDA still waits for word from a pilot; in "holding" it has the last one, and its adder is at work.
ALIVE_THERE = frozenset({"sent", "starting", "running", "holding", "transferring", "merging"})
UNWANTED = "the pilot gives the job back before it ran"
FOREIGN = Heard(word="badattemptnr")  # what an attempt would hear that another queue has given

Standing = Mapping[str, tuple[str, int]]


class PandaServer:
    """One pilot's view of one PanDA queue; holds no job state, only what the server was found to be."""

    def __init__(
        self,
        line: Line,
        site: Site,
        queue: QueueData | None = None,
        node: Capabilities | None = None,
        order: WordOrder | None = None,
    ) -> None:
        self._line = line
        self._site = site
        self._queue = queue
        self._node = node
        self._told = Told(line)
        self._order = order or WordOrder()  # one for all lines of a pilot
        self._points = Points(line)
        self._hardware = queue is None or queue.hardware  # whether the server takes the node's hardware, as far as seen
        self._registered = False
        self._kinds: tuple[asking.Kind, ...] = ()

    def register(self, offer: Offer) -> Registration:
        """Looks whether the server is there and the queue open; tells it what this node is."""
        reply = self._line.call("GET", ALIVE, {})
        if not reply.success:
            raise said_no(self._line, ALIVE, WireError(reply.message))
        self._registered = True
        self._kinds = self._resource_types()
        for path, arguments in self._maps(offer):
            with suppress(PortError):  # no job depends on what monitors show
                self._line.call("POST", PILOT + path, arguments)
        state = self._queue.status if self._queue else "online"
        floor = max(ONE_JOB_SECONDS, float(self._queue.timefloor_seconds)) if self._queue else 0.0
        lifetime = float(self._site.limits.walltime_seconds)
        lease = self._site.lease_seconds
        notes = self._queue.notes if self._queue else ()
        return Registration(lease, POLL_SECONDS, state, POLL_CAP_SECONDS, floor, lifetime, PHASE_PAUSE_SECONDS, notes)

    def _resource_types(self) -> tuple[asking.Kind, ...]:
        """What sizes of jobs there are, for a slot that cannot take every one; none where the server does not tell."""
        if self._site.resource_type:
            return ()
        with suppress(PortError, WireError):
            return asking.kinds_in(self._line.call("GET", RESOURCE_TYPES, {}), self._queue.cores if self._queue else 0)
        return ()

    def _maps(self, offer: Offer) -> list[tuple[str, asking.Arguments]]:
        maps = [] if self._node is None else [("update_worker_node", asking.node_map(self._site, self._node))]
        maps += [("update_worker_node_gpu", each) for each in asking.gpu_maps(self._site, offer)]
        return [*maps, *self._worker("started")]

    def _worker(self, status: str) -> list[tuple[str, asking.Arguments]]:
        """What Harvester is to know of its worker, where Harvester started this pilot."""
        site = self._site
        if not site.harvester or site.worker is None:
            return []
        known = {"harvester_id": site.harvester, "worker_id": site.worker, "node_id": site.node}
        return [("update_worker_status", {**known, "status": status})]

    # --- claims ---

    def claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Grant | None]:
        """As many jobs in one request as are wanted on one offer; a claim id means nothing to PanDA."""
        found: dict[str, Grant] = {}
        for offer in dict.fromkeys(each.offer for each in requests):
            ids = list(dict.fromkeys(each.claim_id for each in requests if each.offer == offer))
            for kind in asking.fitting(self._kinds, max(1, offer.cpus // len(ids))):
                wanted = [each for each in ids if each not in found]
                found |= dict(zip(wanted, self._acquired(offer, len(wanted), kind), strict=False)) if wanted else {}
        self._order.begin([(each.job_id, each.attempt) for each in found.values()])
        return [found.get(each.claim_id) for each in requests]

    def _acquired(self, offer: Offer, count: int, kind: str) -> list[Grant]:
        """The grants, each job once; those beyond what was asked for go back at once."""
        try:
            definitions = asking.jobs_in(self._acquire(offer, count, kind))
        except WireError as problem:
            raise said_no(self._line, PILOT + "acquire_jobs", problem) from None
        site = replace(self._site, room=asking.room_in(offer, count, self._hardware))
        grants: dict[tuple[str, int], Grant] = {}
        for each in definitions:
            with suppress(WireError):  # one that does not say which job it is cannot even be reported
                grant = self._granted(each, offer, site)
                grants.setdefault((grant.job_id, grant.attempt), grant)
        wanted = list(grants.values())
        if wanted[count:]:
            self.give_back([Unclaim("", each.job_id, each.attempt, each.receipt) for each in wanted[count:]])
        return wanted[:count]

    def _granted(self, definition: Record, offer: Offer, site: Site) -> Grant:
        """The grant of that job, with what stands elsewhere: what its task asks of devices, the point to evaluate."""
        wanted = "what its task asks of devices could not be asked"
        try:
            whole = self._with_devices(definition, offer)
            wanted = "no point could be drawn"
            return grant_of(whole, site, self._points.draw(whole) if wants_point(whole) else NO_POINT)
        except PortError as problem:
            known, why = identity_of(definition), f"{wanted}: {problem.fault.detail}"
            return refused(known, site, why, problem.fault.code)

    def _with_devices(self, definition: Record, offer: Offer) -> Record:
        """The definition with its task's wishes for devices, by which PanDA chooses and which it does not hand out."""
        task = asking.task_to_ask(definition) if offer.devices else None
        wish = self._told.architecture(task) if task is not None else ""
        return {**definition, "cmtConfig": wish} if wish else definition

    def _acquire(self, offer: Offer, count: int, kind: str) -> Reply:
        """A server that does not take the node's hardware is not told again."""
        reply = self._ask_for(offer, count, kind)
        if not self._hardware or not asking.refuses_hardware(reply):
            return reply
        self._hardware = False
        return self._ask_for(offer, count, kind)

    def _ask_for(self, offer: Offer, count: int, kind: str) -> Reply:
        asked = asking.acquire(self._site, offer, count, self._hardware, kind)
        return self._line.call("POST", PILOT + "acquire_jobs", asked)

    def changed(self, patience: float = 0.0) -> bool:
        """PanDA has no look at a queue: only a claim can tell."""
        return True

    # --- attempts in hand ---

    def renew(self, beats: Sequence[Beat]) -> Sequence[BeatReply]:
        """Heartbeats; the server's silence limit is the lease. Of what is over nothing but the last word is said."""
        alive = [each for each in beats if is_id(each.job_id) and each.phase != Phase.CLOSED]
        with self._order.alive([(each.job_id, each.attempt) for each in alive]) as told:
            known = [each for each in alive if (each.job_id, each.attempt) in told]
            said = self._told.update([telling.alive(self._site, _life(each)) for each in known])
        heard = {(each.job_id, each.attempt): one for each, one in zip(known, said, strict=True)}
        there = self._standing(heard)
        return [self._reply(each, heard.get((each.job_id, each.attempt), _unsaid(each)), there) for each in beats]

    def _reply(self, beat: Beat, said: Heard, there: Standing) -> BeatReply:
        """`tobekilled` means a kill, or that there is no such attempt: the job's status tells which."""
        over = said.word in DONE | NOT_OURS or (said.word == GONE and not _is_ours(beat, there))
        if over:
            return BeatReply(beat.job_id, beat.attempt, ours=False)
        lease = self._site.lease_seconds
        return BeatReply(beat.job_id, beat.attempt, True, lease, said.command, said.question)

    def report(self, reports: Sequence[Report]) -> Sequence[bool]:
        """True = recorded, now or before; False = the server knows no such attempt any more."""
        known = [each for each in reports if is_id(each.job_id)]
        self._order.end([(each.job_id, each.attempt) for each in known])
        settled = [self._points.settled(each) for each in known]  # first: a loss is lost once the job is over
        said = self._told.update([telling.ended(self._site, each) for each in settled])
        heard = {(each.job_id, each.attempt): one for each, one in zip(known, said, strict=True)}
        there = self._standing(heard)
        return [_recorded(each, heard.get((each.job_id, each.attempt), FOREIGN), there) for each in reports]

    def give_back(self, claims: Sequence[Unclaim]) -> None:
        """Fails what was granted, with the number after which PanDA tries again; the rest was never ours to return."""
        lives = [telling.Life(each.job_id, each.attempt, "returned", receipt=each.receipt) for each in claims]
        known = [each for each in lives if is_id(each.job_id)]
        self._order.end([(each.job_id, each.attempt) for each in known])
        self._told.update([telling.unwanted(self._site, each, UNWANTED, moment()) for each in known])

    def _standing(self, heard: Mapping[tuple[str, int], Heard]) -> Standing:
        """What the server has on record of the attempts that it would have us end."""
        return self._told.standing([job for (job, _), said in heard.items() if said.word == GONE])

    def adopt(self, pilot_id: str, attempts: Sequence[Beat]) -> Sequence[BeatReply]:
        """Ours again where PanDA still waits for word of that attempt."""
        there = self._told.standing([each.job_id for each in attempts if is_id(each.job_id)])
        lease = self._site.lease_seconds
        return [BeatReply(each.job_id, each.attempt, _is_ours(each, there), lease) for each in attempts]

    def code(self, pack: CodePack) -> bytes:
        """PanDA's jobs bring their code as an input."""
        raise Final(Code.JOB_INVALID, f"{self._line.origin}: a PanDA server keeps no code of sha256 {pack.sha256}")

    def close(self) -> None:
        """Lets go of connections; Harvester learns that its worker is done."""
        for path, arguments in self._worker("finished") if self._registered else ():
            with suppress(PortError):
                self._line.call("POST", PILOT + path, arguments)
        self._line.close()


def _life(beat: Beat) -> telling.Life:
    return telling.Life(beat.job_id, beat.attempt, beat.phase, beat.progress, beat.receipt, beat.usage, beat.answer)


def _unsaid(beat: Beat) -> Heard:
    """What an attempt hears of which nothing was said: its last word, on another line, brings the answer."""
    return Heard() if is_id(beat.job_id) else FOREIGN


def _is_ours(beat: Beat, there: Standing) -> bool:
    status, attempt = there.get(beat.job_id, ("not found", -1))
    return status in ALIVE_THERE and attempt == beat.attempt


def _recorded(report: Report, said: Heard, there: Standing) -> bool:
    """A final word under a pending kill is recorded all the same; one about another attempt is not."""
    if said.word == GONE:
        status, attempt = there.get(report.job_id, ("not found", -1))
        return status != "not found" and attempt == report.attempt
    return said.word not in NOT_OURS
