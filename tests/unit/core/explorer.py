"""A world around the life cycle, and a search through everything that can happen in it.

The world is honest: a payload that was started runs until it ends or is stopped; a claim may have been granted, a
file stored, a report taken before anybody heard of it; a crash loses every order on its way but no effect; a
share can be held once. Each order is answered once, with any answer that the world allows, at any time; any news
comes at any moment; the pilot may crash anywhere, again and again.

Tickets are renumbered after every step, so the world is finite. What is checked at every step and at the end
is in `tests/unit/core/laws.py`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from pilot.core import lifecycle
from pilot.model import facts
from pilot.model.facts import Ending, Fact
from pilot.model.faults import Code, fault
from pilot.model.job import Cause, Grant, Job, JobSpec, Phase, Share, Verdict
from pilot.model.orders import GiveBack, Kind, Order
from tests.unit.core import laws

FREE, MINE, OTHERS, RETIRED = "free", "mine", "others", "retired"  # who holds the one share, seen from one seat

ENDINGS = {
    "well": Ending("started", exit_code=0),
    "ill": Ending("started", exit_code=1),
    "resumes": Ending("started", exit_code=85, fresh_checkpoint=True),
    "well-left": Ending("started", exit_code=0, gone=False),
    "ill-left": Ending("started", exit_code=1, gone=False),
}
CAUSES = {
    Cause.CANCELLED: None,
    Cause.TIME_UP: fault(Code.BATCH_WALLTIME),
    Cause.PREEMPTED: None,
    Cause.LIMIT: fault(Code.PAYLOAD_DISK),
    Cause.FENCED: None,
}
PASSING, NEVER = fault(Code.STORAGE_UNREACHABLE), fault(Code.OUTPUT_MISSING)


class Seat(NamedTuple):
    """One job and the world's truth about it."""

    job: Job
    flying: tuple[Order, ...] = ()
    queue: str = "unknown"  # unknown, granted, lost, returned, reported
    payload: str = "none"  # none, forbidden, runs, or a key of ENDINGS
    check: str = "none"  # none, forbidden, runs, valid, invalid, valid-left
    stored: str = ""  # what the last finished store has put in its place
    cut: bool = False  # a share was cut for it; Go is on its way

    def key(self) -> tuple[object, ...]:
        job = self.job
        return (
            job.phase, job.grant is None, job.verdict, job.fault and job.fault.code, job.cause, job.keeps,
            tuple(kind for kind, _ in job.open), job.holds_share, job.tainted,
            tuple((each.kind, each.what) for each in self.flying), *self[2:],
        )  # fmt: skip


class Place(NamedTuple):
    """One seat, and who holds the one share there is."""

    seat: Seat
    holder: str = FREE


class Move(NamedTuple):
    """One thing that happens at a seat; `fair` = it happens sooner or later if nothing else does."""

    name: str
    fair: bool
    after: Place


@dataclass(frozen=True)
class Setting:
    """How rich the world is. `crashes` None = any number."""

    spec: JobSpec
    jobs: int = 1
    causes: tuple[Cause, ...] = tuple(Cause)
    crashes: int | None = None
    breaks: bool = True
    checkpoints: bool = True
    endings: tuple[str, ...] = tuple(ENDINGS)


@dataclass
class Found:
    """What the search has seen: `ends` are verdict and queue's knowledge of closed jobs."""

    states: int
    transitions: int
    phases: frozenset[Phase]
    ends: frozenset[tuple[Verdict | None, str]]


World = tuple[tuple[int, ...], int | str, int]  # the seats by number, who holds the share, crashes left


class Search:
    """Visits every reachable world; each seat is worked out once, and worlds are put together from seats."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.seats: list[Seat] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._moves: dict[tuple[int, str], list[tuple[str, bool, int, str]]] = {}
        self._crashed: dict[int, int] = {}
        self._parents: dict[World, tuple[World | None, str]] = {}
        self._back: dict[World, list[World]] = {}
        self.transitions = 0

    def run(self) -> Found:
        first: World = ((self._number(Seat(Job("0"))),) * self.setting.jobs, FREE, self.setting.crashes or 0)
        self._parents[first] = (None, "")
        waiting, ends = deque([first]), []
        while waiting:
            world = waiting.popleft()
            try:
                if all(over(self.seats[each]) for each in world[0]):
                    ends.append(world)
                    laws.at_the_end([self.seats[each] for each in world[0]], world[1] in (FREE, RETIRED))
                waiting.extend(self._visit(world))
            except laws.Broken as broken:
                raise laws.Broken(f"{broken}; after: {self._way(world)}") from None
        self._none_is_stuck(ends)
        phases = frozenset(each.job.phase for each in self.seats)
        found = frozenset((each.job.verdict, each.queue) for each in self.seats if over(each))
        return Found(len(self._parents), self.transitions, phases, found)

    def _visit(self, world: World) -> Iterator[World]:
        for name, fair, after in self._worlds_after(world):
            self.transitions += 1
            if fair:
                self._back.setdefault(after, []).append(world)
            if after not in self._parents:
                self._parents[after] = (world, name)
                yield after

    def _worlds_after(self, world: World) -> Iterator[tuple[str, bool, World]]:
        seats, holder, crashes = world
        if self.setting.crashes is None or crashes:
            yield "crash", False, self._crash(world)
        for place, seat in enumerate(seats):
            seen = holder if isinstance(holder, str) else (MINE if holder == place else OTHERS)
            for name, fair, after, held in self._moves_of(seat, seen):
                now = place if held == MINE else holder if held == OTHERS else held
                yield name, fair, ((*seats[:place], after, *seats[place + 1 :]), now, crashes)

    def _moves_of(self, seat: int, holder: str) -> list[tuple[str, bool, int, str]]:
        """All that can happen at that seat; what changes nothing is left out."""
        if (seat, holder) not in self._moves:
            place = Place(self.seats[seat], holder)
            laws.of_stale_answers(place.seat.job)
            found = (
                (*move[:2], self._number(move.after.seat), move.after.holder) for move in moves(place, self.setting)
            )
            self._moves[seat, holder] = [each for each in found if each[2:] != (seat, holder)]
        return self._moves[seat, holder]

    def _crash(self, world: World) -> World:
        """Orders on their way are lost, effects are not; the ledger is read back from the jobs."""
        seats, holder, crashes = world
        for seat in seats:
            if seat not in self._crashed:
                self._crashed[seat] = self._number(crash(self.seats[seat]))
        if holder != RETIRED:
            holder = next((place for place, seat in enumerate(seats) if self.seats[seat].job.holds_share), FREE)
        return tuple(self._crashed[each] for each in seats), holder, crashes - (self.setting.crashes is not None)

    def _number(self, seat: Seat) -> int:
        """The seat's number; seats that differ in nothing that matters share one."""
        number = self._numbers.setdefault(seat.key(), len(self.seats))
        if number == len(self.seats):
            self.seats.append(seat)
        return number

    def _none_is_stuck(self, ends: list[World]) -> None:
        """From every world some end can be reached by what happens anyway."""
        seen, waiting = set(ends), deque(ends)
        while waiting:
            for each in self._back.get(waiting.popleft(), ()):
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
        stuck = [world for world in self._parents if world not in seen]
        laws.demand(not stuck, f"{len(stuck)} states are stuck; after: {self._way(stuck[0]) if stuck else ''}")

    def _way(self, world: World) -> str:
        steps: list[str] = []
        here: World | None = world
        while here is not None:
            here, name = self._parents[here]
            steps.append(name)
        return " > ".join(steps[-2::-1])


def explore(setting: Setting) -> Found:
    """Visits everything; raises `laws.Broken` with the way there when a law is broken."""
    return Search(setting).run()


def over(seat: Seat) -> bool:
    return seat.job.phase is Phase.CLOSED and not seat.job.open and not seat.cut


# --- one step of the machine ------------------------------------------------------------------------------------


def feed(place: Place, fact: Fact, **truth: object) -> Place:
    """The place after its job was told a fact; the orders that follow are on their way."""
    seat = place.seat._replace(**truth)  # type: ignore[arg-type]
    job, orders = lifecycle.advance(seat.job, fact)
    if job is seat.job and not orders:
        return place._replace(seat=seat)
    laws.of_a_step(seat, place.holder == MINE, fact, job, orders)
    holder = place.holder
    flying = [each for each in seat.flying if (each.kind, each.ticket) in job.open]
    for each in orders:
        if isinstance(each, GiveBack):
            holder = RETIRED if each.retire else FREE
        else:
            flying.append(each)
    return Place(_renumbered(seat._replace(job=job, flying=tuple(flying))), holder)


def _renumbered(seat: Seat) -> Seat:
    """The same with the open tickets called 1, 2, 3, ..., in their order."""
    if [ticket for _, ticket in seat.job.open] == list(range(1, seat.job.tickets + 1)):
        return seat
    names = {ticket: place for place, (_, ticket) in enumerate(sorted(seat.job.open, key=lambda each: each[1]), 1)}
    job = replace(
        seat.job,
        open=tuple(sorted(((kind, names[ticket]) for kind, ticket in seat.job.open), key=lambda each: each[1])),
        tickets=len(names),
    )
    flying = tuple(replace(each, ticket=names[each.ticket], abandons=None) for each in seat.flying)
    return seat._replace(job=job, flying=tuple(sorted(flying, key=lambda each: each.ticket)))


# --- what can happen --------------------------------------------------------------------------------------------


def moves(place: Place, setting: Setting) -> Iterator[Move]:
    yield from _news(place, setting)
    yield from _by_itself(place, setting)
    for each in place.seat.flying:
        yield from _ORDERS[each.kind](place, each, setting)


def crash(seat: Seat) -> Seat:
    """What the crew held in its head is gone; the restarted pilot tells the job."""
    forgotten = {name: "none" for name in ("payload", "check") if getattr(seat, name) == "forbidden"}
    bare = seat._replace(flying=(), cut=False, **forgotten)
    return feed(Place(bare, MINE if seat.job.holds_share else FREE), facts.Recovered(seat.job.key)).seat


def _now(place: Place, **truth: object) -> Place:
    """The place with another truth about its seat."""
    return place._replace(seat=place.seat._replace(**truth))  # type: ignore[arg-type]


def _news(place: Place, setting: Setting) -> Iterator[Move]:
    key = place.seat.job.key
    yield Move("asks", True, feed(place, facts.Claiming(key)))
    if setting.checkpoints:
        yield Move("checkpoint due", False, feed(place, facts.CheckpointDue(key)))
    yield Move("retry due", True, feed(place, facts.RetryDue(key)))
    if place.seat.job.phase is Phase.READY and not place.seat.cut:
        yield Move("unfit", place.holder == RETIRED, feed(place, facts.Unfit(key, fault(Code.JOB_INVALID))))
    if place.seat.job.phase is Phase.READY and place.holder == FREE:
        yield Move("share cut", True, _now(place._replace(holder=MINE), cut=True))
    if place.seat.cut:
        yield Move("go", True, feed(place, facts.Go(key, Share()), cut=False))
    for cause in setting.causes:
        if cause is not Cause.FENCED or place.seat.queue in ("granted", "lost"):
            lost = {"queue": "lost"} if cause is Cause.FENCED else {}
            yield Move(cause.value, False, feed(place, facts.End(key, cause, CAUSES[cause]), **lost))


def _by_itself(place: Place, setting: Setting) -> Iterator[Move]:
    """Payload and validate step end; the queue gives the attempt to somebody else without our knowing."""
    if place.seat.payload == "runs":
        for how in setting.endings:
            yield Move(f"payload ends {how}", True, _now(place, payload=how))
    if place.seat.check == "runs":
        for how in ("valid", "invalid", *(["valid-left"] if "well-left" in setting.endings else [])):
            yield Move(f"check ends {how}", True, _now(place, check=how))
    if place.seat.queue == "granted" and Cause.FENCED in setting.causes:
        yield Move("lease lost", False, _now(place, queue="lost"))


def _broke(
    place: Place, each: Order, setting: Setting, *, gone: bool = True, fair: bool = False, **truth: object
) -> Iterator[Move]:
    """The order breaks, if this world breaks any, or if nothing else can come of it."""
    if setting.breaks or fair:
        fact = facts.Broke(each.key, each.ticket, each.kind, PASSING, gone)
        yield Move(f"{each.kind} broke{'' if gone else ', something left'}", fair, feed(place, fact, **truth))


def _claim(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    if place.seat.queue == "unknown":
        yield Move("queue grants", True, _now(place, queue="granted"))
    if place.seat.queue == "granted":
        grant = Grant("1", 1, setting.spec, 60.0)
        refused = facts.Granted(each.key, each.ticket, replace(grant, refusal=fault(Code.JOB_INVALID)))
        yield Move("what was granted is no job", False, feed(place, refused))
        fact: Fact = facts.Granted(each.key, each.ticket, grant)
    else:
        fact = facts.Nothing(each.key, each.ticket)
    yield Move("claim answered", True, feed(place, fact))
    yield from _broke(place, each, setting)


def _fetch(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    yield Move("arrived", True, feed(place, facts.Arrived(each.key, each.ticket)))
    yield from _broke(place, each, setting)


def _start(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    """Answered when the payload ends; a stop that came first makes it break."""
    if place.seat.payload in ENDINGS:
        fact = facts.Exited(each.key, each.ticket, ENDINGS[place.seat.payload])
        yield Move("exited", True, feed(place, fact))
    elif place.seat.payload == "forbidden":
        yield from _broke(place, each, setting, fair=True)
    elif place.seat.payload == "none":
        yield Move("payload starts", True, _now(place, payload="runs"))
        yield from _broke(place, each, setting)
        yield from _broke(place, each, setting, gone=False, payload="ill-left")


def _adopt(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    yield from _start(place, each, setting)
    if place.seat.payload == "runs":  # the supervisor died as well
        yield from _broke(place, each, setting, payload="ill")
        yield from _broke(place, each, setting, gone=False, payload="ill-left")


def _stop(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    """Ends the process that the phase is about; answered once it has ended, or cannot begin any more."""
    name = "check" if place.seat.job.phase is Phase.VALIDATING else "payload"
    state = getattr(place.seat, name)
    bad, good, left = ("invalid", "valid", "valid-left") if name == "check" else ("ill", "well", "ill-left")
    if state == "runs":
        for how in (bad, good, left) if "well-left" in setting.endings else (bad, good):
            yield Move(f"stopped, {how}", True, _now(place, **{name: how}))
        yield from _broke(place, each, setting, gone=False)
    else:
        truth = {name: "forbidden"} if state == "none" else {}
        yield Move("stopped", True, feed(place, facts.Stopped(each.key, each.ticket), **truth))
    yield from _broke(place, each, setting)


def _validate(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    if place.seat.check == "none":
        yield Move("check starts", True, _now(place, check="runs"))
        yield from _broke(place, each, setting)
        yield from _broke(place, each, setting, gone=False, check="valid-left")
    elif place.seat.check == "forbidden":
        yield from _broke(place, each, setting, fair=True)
    elif place.seat.check != "runs":
        fact = facts.Validated(
            each.key, each.ticket, place.seat.check != "invalid", gone=not place.seat.check.endswith("left")
        )
        yield Move("validated", True, feed(place, fact))


def _checkpoint(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    yield Move("saved", True, feed(place, facts.Saved(each.key, each.ticket, True)))
    yield Move("nothing saved", True, feed(place, facts.Saved(each.key, each.ticket, False)))
    yield from _broke(place, each, setting)


def _store(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    if place.seat.stored != each.what:
        yield Move(f"{each.what} in place", True, _now(place, stored=each.what.value))
        never = facts.Broke(each.key, each.ticket, each.kind, NEVER)
        if setting.breaks:
            yield Move("store can never be", False, feed(place, never))
    else:
        yield Move(f"stored {each.what}", True, feed(place, facts.Stored(each.key, each.ticket)))
    yield from _broke(place, each, setting)


def _store_checkpoint(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    yield Move("checkpoint stored", True, feed(place, facts.Stored(each.key, each.ticket)))
    yield from _broke(place, each, setting)


def _report(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    if place.seat.queue == "granted":
        yield Move("queue takes report", True, _now(place, queue="reported"))
    else:
        fact = facts.Acknowledged(each.key, each.ticket, place.seat.queue == "reported")
        yield Move("acknowledged", True, feed(place, fact))
    yield from _broke(place, each, setting)


def _return(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    """Returned, or left to the lease, which ends because nobody renews it."""
    queue = "returned" if place.seat.queue in ("unknown", "granted") else place.seat.queue
    yield Move("returned", True, feed(place, facts.Returned(each.key, each.ticket), queue=queue))
    yield from _broke(place, each, setting, queue=queue)


def _sweep(place: Place, each: Order, setting: Setting) -> Iterator[Move]:
    yield Move("swept", True, feed(place, facts.Swept(each.key, each.ticket)))
    yield Move("not swept", True, feed(place, facts.Swept(each.key, each.ticket, gone=False)))
    yield from _broke(place, each, setting)


_ORDERS = {
    Kind.CLAIM: _claim,
    Kind.FETCH: _fetch,
    Kind.START: _start,
    Kind.ADOPT: _adopt,
    Kind.STOP: _stop,
    Kind.VALIDATE: _validate,
    Kind.CHECKPOINT: _checkpoint,
    Kind.STORE: _store,
    Kind.STORE_CHECKPOINT: _store_checkpoint,
    Kind.REPORT: _report,
    Kind.RETURN: _return,
    Kind.SWEEP: _sweep,
}
