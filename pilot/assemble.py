"""The composition root: the only place that names adapters. One function builds one thing."""

import os
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pilot.adapters.codepack import unpack
from pilot.adapters.journal_file import FileJournal
from pilot.adapters.launcher_supervisor import SupervisorLauncher
from pilot.adapters.outputs import Outputs
from pilot.adapters.runtime_bare import BareRuntime
from pilot.adapters.storage_file import FileStorage
from pilot.adapters.system import SystemClock
from pilot.core import ledger as books
from pilot.core.steward import Notice, Rules, Steward
from pilot.model.capability import Capabilities, Offer, View
from pilot.model.facts import Fact, Go
from pilot.model.faults import Code
from pilot.model.job import Job, Phase
from pilot.model.orders import Kind
from pilot.model.report import Report
from pilot.ports import Final, Images, Matcher, Runtime, Server
from pilot.queue.local import LocalServer
from pilot.queue.store import open_store
from pilot.shell.crew import Crew, Hand
from pilot.shell.desk import Desk, Ears, Summary
from pilot.shell.doors import Doors, House, sandbox_of
from pilot.shell.errands import Errands
from pilot.shell.loop import Loop
from pilot.shell.payload import Payloads
from pilot.shell.staging import Staging
from pilot.shell.telemetry import Telemetry
from pilot.shell.watch import Watch

HELPER = Path(__file__).parent / "payload"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one pilot is told; times in seconds, `deadline` from now."""

    queue: str
    state: Path
    scratch: Path
    runtime: str = "apptainer"
    queue_name: str = "default"
    max_jobs: int | None = None
    idle_exit: float | None = None
    lifetime: float | None = None
    adopt_window: float = 5.0
    grace: float = 10.0
    prefetch: int = 0
    binds: tuple[str, ...] = ()
    flat: bool = False
    keep_failed: int = 3
    log_level: str = "info"
    parked_patience: float = 60.0


@dataclass(slots=True)
class Pilot:
    """A pilot, ready to run."""

    loop: Loop
    options: RunOptions
    _closers: list[Callable[[], None]] = field(default_factory=list)

    def run(self) -> Summary:
        """Works until it is told or entitled to leave; leaves nothing behind."""
        try:
            return self.loop.run()
        finally:
            for close in self._closers:
                close()

    def notice(self, what: Notice) -> None:
        """A signal or an order from outside."""
        self.loop.post(what)


def queue_path(url: str) -> Path:
    """The file of a `sqlite:PATH` URL; raises in one line for any other."""
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite" or not rest:
        raise Final(Code.JOB_INVALID, f"queue {url!r}: use sqlite:PATH")
    return Path(rest.removeprefix("//")).expanduser()


def matcher() -> Matcher:
    """ClassAd expressions, imported on first use."""
    from pilot.adapters.matcher_classad import ClassAdMatcher

    return ClassAdMatcher()


def build_pilot(options: RunOptions, capabilities: Capabilities, on_report: Callable[[Report], None]) -> Pilot:
    """The pilot of one state directory."""
    clock = SystemClock()
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = FileJournal(options.state)
    launcher = SupervisorLauncher(options.state, options.adopt_window)
    server, pulse = _server(options), _server(options)
    pilot_id = f"{capabilities.host}/{os.getpid()}/{secrets.token_hex(4)}"
    log = Telemetry(options.state / "pilot.log", clock, pilot_id, options.log_level)
    house = House(
        scratch=options.scratch / "jobs",
        kept=options.scratch / "kept",
        binds=options.binds,
        grace=options.grace,
        flat=options.flat,
        bare=options.runtime == "bare",
        keep_failed=options.keep_failed,
    )
    house.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    runtime = runtime_of(options.runtime)
    doors = Doors(
        server=server,
        runtime=runtime,
        launcher=launcher,
        images=images(),
        storage={"file": FileStorage()},
        collect=Outputs(),
        unpack=unpack,
        clock=clock,
    )
    payloads, staging = Payloads(doors, house), Staging(doors, house)
    errands = Errands(server, pulse, lambda: _offer(pilot_id, capabilities, loop.offer_free(), options.runtime))
    watch = Watch(lambda end: loop.post(end))

    def on_go(job: Job, go: Go) -> None:
        if go.share.scratch_bytes:
            watch.add(job.key, sandbox_of(house, job).root, go.share.scratch_bytes)

    def on_fact(before: Job, after: Job, fact: Fact) -> None:
        if before.phase is Phase.RUNNING and after.phase is not Phase.RUNNING:
            watch.drop(after.key)
        story = sandbox_of(house, after).logs / "pilot" if after.grant is not None else None
        log.fact(before, after, fact, story)

    def on_over(job: Job) -> None:
        watch.drop(job.key)
        payloads.forget(job)

    ears = Ears(on_report, on_fact, lambda event, seen: log.event(event, **seen), on_go, on_over)
    desk = Desk(
        clock=clock,
        journal=journal,
        errands=errands,
        ears=ears,
        isolation=lambda job: payloads.isolation(job.key),
        hurry=payloads.hurry,
        unit_random=random.random,
        pilot_id=pilot_id,
        grace=options.grace,
    )
    registration = server.register(_offer(pilot_id, capabilities, capabilities.slot, options.runtime))
    steward = Steward(_rules(options, registration.poll_seconds))
    loop = Loop(desk, steward, books.open_ledger(capabilities.slot, capabilities.cores))
    crew = Crew(loop.post, _hand(staging, payloads), errands.serve)
    loop.crew = payloads.crew = crew
    launcher.attend(payloads.gone)
    closers = [
        watch.close,
        launcher.close,
        lambda: crew.close(2.0),
        server.close,
        pulse.close,
        journal.close,
        log.close,
    ]
    return Pilot(loop, options, closers)


def _server(options: RunOptions) -> Server:
    return LocalServer(open_store(queue_path(options.queue)), matcher(), options.queue_name)


def runtime_of(name: str) -> Runtime:
    """The runtime of that name."""
    if name == "bare":
        return BareRuntime(HELPER)
    from pilot.adapters.runtime_apptainer import ApptainerRuntime

    return ApptainerRuntime(HELPER)


def images() -> Images:
    """The images of this node."""
    from pilot.adapters.images_cache import ImagesCache

    return ImagesCache()


def _hand(staging: Staging, payloads: Payloads) -> Hand:
    """Who carries out which order."""
    hands: dict[Kind, Hand] = {
        Kind.FETCH: staging.fetch,
        Kind.STORE: staging.store,
        Kind.STORE_CHECKPOINT: staging.store_checkpoint,
        Kind.SWEEP: staging.sweep,
        Kind.START: payloads.start,
        Kind.ADOPT: payloads.adopt,
        Kind.VALIDATE: payloads.validate,
        Kind.CHECKPOINT: payloads.checkpoint,
        Kind.STOP: payloads.stop,
    }
    return lambda task: hands[task.order.kind](task)


def _rules(options: RunOptions, poll: float) -> Rules:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Rules(
        prefix=secrets.token_hex(6),
        max_jobs=options.max_jobs,
        idle_exit=options.idle_exit,
        deadline=now + options.lifetime if options.lifetime else None,
        closing=options.grace + 3.0,
        prefetch=options.prefetch,
        poll=poll,
        poll_cap=poll,
        parked_patience=options.parked_patience,
    )


def _offer(pilot_id: str, capabilities: Capabilities, free: View, runtime: str) -> Offer:
    return Offer(
        pilot_id=pilot_id,
        host=capabilities.host,
        cpus=free.cpus,
        memory_bytes=free.memory_bytes,
        scratch_bytes=free.scratch_bytes,
        devices=free.accelerators,
        runtime=runtime,
        images=tuple(each.name for each in capabilities.images),
        arch=free.arch,
        microarch=free.microarch,
        attributes=capabilities.labels,
    )
