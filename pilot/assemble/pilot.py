"""The composition root: the only place that names adapters. One function builds one thing."""

import os
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pilot.adapters.apptainer_found import Search
from pilot.adapters.codepack import unpack
from pilot.adapters.insight import SandboxInsight
from pilot.adapters.journal_file import FileJournal
from pilot.adapters.launcher_supervisor import SupervisorLauncher
from pilot.adapters.outputs import Outputs
from pilot.adapters.probe_host import HostProbe, Limits
from pilot.adapters.runtime_bare import BareRuntime
from pilot.adapters.storage_file import FileStorage
from pilot.adapters.system import SystemClock
from pilot.assemble.queue import matcher, queue_path
from pilot.assemble.server import is_remote, remote_storages
from pilot.assemble.server import servers_of as remote_servers
from pilot.assemble.stay import is_offline, refusal, rules_of, seconds_left
from pilot.assemble.storages import permitted
from pilot.config.home import home
from pilot.config.settings import CVMFS, Settings
from pilot.core import ledger as books
from pilot.core.grants import capabilities
from pilot.core.steward import Steward
from pilot.model.capability import Capabilities, Offer, View
from pilot.model.facts import Fact, Go
from pilot.model.job import Job, Phase
from pilot.model.orders import Kind
from pilot.model.visit import Notice, Summary
from pilot.ports import PortError, Runtime, Server
from pilot.queue.local import LocalServer
from pilot.queue.store import open_store
from pilot.shell.crew import Crew, Hand
from pilot.shell.desk import Desk, Ears, OnReport
from pilot.shell.doors import Doors, House, sandbox_of
from pilot.shell.errands import LOOK_EVERY, Errands
from pilot.shell.eyes import Eyes
from pilot.shell.loop import Loop
from pilot.shell.payload import Payloads
from pilot.shell.staging import Staging, remove_tree
from pilot.shell.story import fold
from pilot.shell.telemetry import Telemetry
from pilot.shell.watch import Watch

if TYPE_CHECKING:
    from pilot.adapters.images_cache import ImageStore

HELPER = Path(__file__).parents[1] / "payload"


@dataclass(frozen=True, slots=True)
class Places:
    """Where one pilot keeps what: journal and log, sandboxes, and what outlives it (images, receipts, downloads)."""

    state: Path
    scratch: Path
    cache: Path


@dataclass(slots=True)
class Pilot:
    """A pilot, ready to run."""

    loop: Loop
    _closers: list[Callable[[], None]] = field(default_factory=list)
    refusal: PortError | None = None  # why it has no business here at all

    def run(self) -> Summary:
        """Works until it is told or entitled to leave; leaves nothing behind."""
        try:
            if self.refusal is not None:
                raise self.refusal
            return self.loop.run()
        finally:
            for close in self._closers:
                close()

    def notice(self, what: Notice) -> None:
        """A signal or an order from outside."""
        self.loop.post(what)

    def save_now(self) -> None:
        """Every payload that can is to write a checkpoint."""
        self.loop.post(self.loop.checkpoint_all)

    def tell_state(self) -> None:
        """Writes where every job stands into the log."""
        self.loop.post(self.loop.tell_state)

    def awake(self) -> None:
        """After a suspension: leases are renewed before anything is written outside."""
        self.loop.post(self.loop.revalidate)


def clear_away(place: Path) -> None:
    """Removes a state directory that nobody needs any more, whatever modes a payload left in it."""
    remove_tree(place)


def places_of(settings: Settings, state: Path) -> Places:
    """The places that the settings give; scratch lies beside the journal unless told otherwise."""
    scratch = Path(settings.scratch) if settings.scratch else state / "scratch"
    return Places(state, scratch, cache_of(settings))


def cache_of(settings: Settings) -> Path:
    """Images, receipts and downloads: the configured place, else `$PILOT_CACHE`, else the user's cache."""
    named = settings.cache or os.environ.get("PILOT_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "pilot"


def servers_of(settings: Settings, node: Capabilities | None = None) -> tuple[Server, Server]:
    """The queue as a pilot uses it, and a second way to it for heartbeats."""
    if is_remote(settings.queue):
        return remote_servers(settings, node)
    return local_server(settings), local_server(settings)


def local_server(settings: Settings) -> Server:
    """The embedded queue, in process."""
    return LocalServer(open_store(queue_path(settings.queue)), matcher(), settings.queue_name)


def runtime_of(settings: Settings, cache: Path) -> Runtime:
    """How payloads are contained."""
    if settings.runtime == "bare":
        return BareRuntime(HELPER)
    from pilot.adapters.runtime_apptainer import ApptainerRuntime

    return ApptainerRuntime(HELPER, cache / "receipts", search_of(settings, cache))


def search_of(settings: Settings, cache: Path) -> Search:
    """Where Apptainer is looked for."""
    return Search(settings.apptainer, os.environ.get("PATH", ""), cache)


def images_of(settings: Settings, cache: Path) -> "ImageStore":
    """The images of this node."""
    from pilot.adapters.images_cache import ImageStore

    roots = (CVMFS,) if is_remote(settings.queue) else ()
    return ImageStore(cache / "images", tuple(map(Path, settings.images)), cache / "receipts", roots)


def probe_node(settings: Settings, scratch: Path, cache: Path) -> Capabilities:
    """What this node is, and what this slot may use of it."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    limits = Limits(settings.cpus, settings.memory, settings.scratch_size)
    found = HostProbe(os.environ, limits).look(scratch)
    runtime = runtime_of(settings, cache).check()
    images = tuple(images_of(settings, cache).at_hand()) if settings.runtime != "bare" else ()
    return capabilities(found, runtime, images, settings.labels, time.time())


def build_pilot(settings: Settings, places: Places, flat: bool, on_report: OnReport) -> Pilot:
    """The pilot of one state directory; `flat` puts outputs right under their destination."""
    places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = FileJournal(places.state)
    launcher = SupervisorLauncher(places.state, settings.adopt_window)
    node = probe_node(settings, places.scratch, places.cache)
    server, pulse = servers_of(settings, node)
    clock = SystemClock()
    pilot_id = f"{node.host}/{node.batch or os.getpid()}/{secrets.token_hex(4)}"
    log = Telemetry(places.state / "pilot.log", clock, pilot_id, settings.log_level)
    house = _house(settings, places, flat)
    images = images_of(settings, places.cache)
    doors = Doors(
        server=server,
        runtime=runtime_of(settings, places.cache),
        launcher=launcher,
        images=images,
        storage={"file": _files(settings, places), **remote_storages(settings)},
        collect=Outputs(),
        unpack=unpack,
        clock=clock,
    )
    watch = Watch(lambda end: loop.post(end))  # noqa: PLW0108  the loop is made below
    payloads, staging = Payloads(doors, house, watch.peak), Staging(doors, house)
    poll = 0.0 if is_remote(settings.queue) else LOOK_EVERY
    errands = Errands(
        server, pulse, lambda: offer_of(pilot_id, node, loop.offer_free(), settings, seconds_left(rules)), poll
    )
    desk = Desk(
        clock=clock,
        journal=journal,
        errands=errands,
        eyes=Eyes(SandboxInsight(), house, watch.peak),
        ears=_ears(log, payloads, watch, house, on_report),
        isolation=payloads.isolation,
        hurry=payloads.hurry,
        unit_random=random.random,
        pilot_id=pilot_id,
        grace=settings.grace,
        deadlines={Kind.FETCH: settings.stage_in_timeout, Kind.STORE: settings.stage_out_timeout},
    )
    registration = server.register(offer_of(pilot_id, node, node.slot, settings))
    log.event("registered", {"queue_state": registration.queue_state, "lease": registration.lease_seconds})
    if registration.notes:
        log.event("queue data", {"ignored": "; ".join(registration.notes)})
    rules = rules_of(settings, registration)
    loop = Loop(desk, Steward(rules), books.open_ledger(node.slot, node.cores))
    crew = Crew(loop.post, _hand(staging, payloads), errands.serve)
    loop.crew = payloads.crew = crew
    launcher.attend(payloads.gone)
    last = (images.close, server.close, pulse.close, journal.close, log.close)
    # Whoever finds jobs of an earlier pilot here sees to them first; `--job` says itself that its job was declined.
    waiting = flat or bool(fold(journal.replay()))
    if is_offline(registration):
        loop.post(Notice.DRAIN)
    closers = [errands.close, watch.close, launcher.close, lambda: crew.close(2.0), staging.close, *last]
    return Pilot(loop, closers, None if waiting else refusal(settings, node, registration))


def _files(settings: Settings, places: Places) -> FileStorage:
    return FileStorage(permitted(settings, places.state, places.scratch, places.cache))


def _house(settings: Settings, places: Places, flat: bool) -> House:
    house = House(
        scratch=places.scratch / "jobs",
        kept=places.scratch / "kept",
        binds=settings.binds,
        grace=settings.grace,
        flat=flat,
        bare=settings.runtime == "bare",
        keep_failed=settings.keep_failed,
    )
    house.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    return house


def _ears(log: Telemetry, payloads: Payloads, watch: Watch, house: House, on_report: OnReport) -> Ears:
    """Who is told what the loop does: the log, the scratch watch, whoever prints."""

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

    return Ears(on_report, on_fact, log.event, on_go, on_over)


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


def offer_of(pilot_id: str, node: Capabilities, free: View, settings: Settings, seconds: float | None = None) -> Offer:
    """What is free now, as the queue is told; for so long, else for the whole of a pilot's lifetime."""
    own = (("Requirements", settings.requirements),) if settings.requirements else ()
    return Offer(
        pilot_id=pilot_id,
        host=node.host,
        cpus=free.cpus,
        memory_bytes=free.memory_bytes,
        scratch_bytes=free.scratch_bytes,
        seconds=settings.lifetime if seconds is None else seconds,
        devices=free.accelerators,
        runtime=settings.runtime if node.runtime.works else "none",
        images=tuple(each.name for each in node.images),
        arch=free.arch,
        microarch=free.microarch,
        attributes=(*settings.labels, *own),
    )
