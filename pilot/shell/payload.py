"""Starting, warning, stopping and adopting payloads; what they leave is read when they end."""

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from pilot.model.facts import Broke, Exited, Fact, Saved, Stopped, Validated
from pilot.model.faults import Code, fault
from pilot.model.job import Job
from pilot.model.plain import from_plain, to_plain
from pilot.model.report import Isolation
from pilot.ports import Abandoned, Final, Gone, Launch, PortError, RunPlan, RunRequest, Sandbox
from pilot.shell import contract
from pilot.shell.crew import Crew, Task
from pilot.shell.doors import Doors, House, granted, launch_of, sandbox_of
from pilot.shell.watch import BEYOND_MEASURE, tree_bytes

NOTICE_SECONDS = 30.0  # at most this long a payload that writes checkpoints is waited for before TERM
PLAN = "plan.json"  # in the sandbox: what was started
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Who waits for the end of a launch."""

    task: Task
    step: str


class Payloads:
    """Carries out *start*, *adopt*, *validate*, *checkpoint* and *stop*; ends come through `gone`."""

    def __init__(self, doors: Doors, house: House, peak: Callable[[str], int]) -> None:
        self.peak = peak
        self._doors = doors
        self._house = house
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._isolation: dict[str, Isolation] = {}
        self._ended = threading.Condition()
        self._ends: dict[str, list[str]] = {}  # by job: launches that ended, kept until the job is over
        self._stopped: set[str] = set()  # launches that were told to stop, perhaps before they were started
        self.crew: Crew | None = None

    def isolation(self, job: Job) -> Isolation:
        """How far the job's payload was kept apart."""
        if job.key not in self._isolation:
            self._isolation[job.key] = _noted_isolation(sandbox_of(self._house, job))
        return self._isolation[job.key]

    def forget(self, job: Job) -> None:
        """The job is over: its end is in the journal, so the supervisor need not keep it any longer."""
        self._isolation.pop(job.key, None)
        for launch in self._ends.pop(job.key, ()):
            self._stopped.discard(launch)
            self._doors.launcher.forget(launch)

    # --- orders --------------------------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """Starts the payload; answered when it ends."""
        self._begin(task, "run", task.job.spec.command)

    def validate(self, task: Task) -> None:
        """Starts the validate step, or waits for the one that runs already."""
        if not self._adopted(task, "validate"):
            self._begin(task, "validate", task.job.spec.validate)

    def adopt(self, task: Task) -> None:
        """Waits for a payload that an earlier pilot started; one that was never started is started now, if it may."""
        if self._adopted(task, "run"):
            return
        if task.job.phase == "stopping":
            raise Final(Code.PILOT_RESTARTED, "the payload was never started, and is not wanted any more")
        self._begin(task, "run", task.job.spec.command)

    def checkpoint(self, task: Task) -> Saved:
        """Tells the payload to save; waits for a new generation where it writes any."""
        job, sandbox = task.job, sandbox_of(self._house, task.job)
        before = contract.newest_generation(sandbox)
        leaving = job.cause is not None
        name, kind = ("PREEMPT.json", "preempt") if leaving else ("CHECKPOINT_NOW", "checkpoint")
        grace = self._house.grace if leaving else None
        contract.tell(sandbox, name, kind, job.cause or "interval", grace, self._doors.clock.wall())
        patience = min(NOTICE_SECONDS, self._house.grace) if leaving else NOTICE_SECONDS
        fresh = self._await_generation(task, sandbox, before, patience)
        return Saved(task.order.key, task.order.ticket, fresh)

    def stop(self, task: Task) -> Stopped:
        """Climbs the ladder: TERM, grace, KILL, session sweep."""
        launch = launch_of(task.job, "validate" if task.job.phase == "validating" else "run")
        self._stopped.add(launch)  # first: a start that is still under way looks here afterwards
        self._doors.launcher.stop(launch, self._house.grace)
        return Stopped(task.order.key, task.order.ticket)

    def hurry(self, job: Job) -> None:
        """No more grace: what of the job still runs is killed now."""
        steps = {"running": "run", "stopping": "run", "validating": "validate"}
        step = steps.get(job.phase.value)
        if step is not None:
            with contextlib.suppress(PortError):  # a supervisor that is gone has ended it already
                self._doors.launcher.stop(launch_of(job, step), 0.0)

    # --- ends ----------------------------------------------------------------------------------------------

    def gone(self, gone: Gone) -> None:
        """Told by the launcher: the answer of the waiting order is made by the crew."""
        with self._lock:
            waiting = self._waiting.pop(gone.launch, None)
        with self._ended:
            self._ended.notify_all()
        if waiting is not None and self.crew is not None:
            order = waiting.task.order
            self.crew.conclude(order.key, order.ticket, gone.gone, lambda: self._ending(waiting, gone))

    def _ending(self, waiting: _Waiting, gone: Gone) -> Fact:
        order, job = waiting.task.order, waiting.task.job
        self._ends.setdefault(job.key, []).append(gone.launch)
        sandbox = sandbox_of(self._house, job)
        if waiting.step == "validate":
            return _validated(waiting.task, gone, sandbox)
        resume = granted(job).resume
        restored = _restored(sandbox) if resume else ""
        ending = contract.ending_of(gone, sandbox, restored, job.spec.contract)
        over = _over_scratch(waiting.task, sandbox) if gone.exit_code != 0 else 0
        peak = max(each for each in (0, self.peak(job.key), tree_bytes(sandbox.work)) if each < BEYOND_MEASURE)
        usage = replace(ending.usage, scratch_peak_bytes=peak)
        seen = replace(ending, usage=usage, orphaned=_orphaned(gone), over_scratch=over)
        return Exited(order.key, order.ticket, seen)

    # --- helpers -------------------------------------------------------------------------------------------

    def _begin(self, task: Task, step: str, command: tuple[str, ...]) -> None:
        sandbox, launch = sandbox_of(self._house, task.job), launch_of(task.job, step)
        if launch in self._stopped:
            raise Abandoned(Code.PILOT_DEADLINE, "stopped before it was started")
        plan = self.plan(task, step, command)
        with self._lock:
            self._waiting[launch] = _Waiting(task, step)
        prefix = "" if step == "run" else f"{step}."
        self._doors.launcher.start(
            Launch(
                launch=launch,
                plan=plan,
                record=sandbox.pilot / step,
                stdout=sandbox.logs / f"{prefix}stdout",
                stderr=sandbox.logs / f"{prefix}stderr",
                grace=self._house.grace,
                log_bytes=self._house.log_bytes,
            )
        )
        if launch in self._stopped:  # the stop overtook the start and found nothing
            self._doors.launcher.stop(launch, self._house.grace)

    def plan(self, task: Task, step: str, command: tuple[str, ...]) -> RunPlan:
        """The exact command of one step, with what it needs written into the sandbox."""
        job = task.job
        sandbox, share = sandbox_of(self._house, job), task.dossier.share
        terms = contract.Terms(self._deadline(task), self._house.grace, self._doors.runtime.workdir(sandbox))
        contract.write_terms(job, share, terms, sandbox, {each.name: each.bytes for each in task.dossier.inputs})
        grant = granted(job)
        request = RunRequest(
            job_id=grant.job_id,
            attempt=grant.attempt,
            spec=job.spec,
            share=share,
            sandbox=sandbox,
            image=task.dossier.image,
            step=step,
            command=command,
            environment=contract.environment(job, share, terms),
            binds=self._house.binds,
        )
        plan = self._doors.runtime.prepare(request)
        if step == "run":
            _note_plan(sandbox, plan, len(command))
        self._isolation[job.key] = plan.isolation
        return plan

    def _deadline(self, task: Task) -> float:
        limit = task.dossier.share.walltime_seconds
        return self._doors.clock.wall() + limit if limit else 0.0

    def _adopted(self, task: Task, step: str) -> bool:
        launch = launch_of(task.job, step)
        with self._lock:
            self._waiting[launch] = _Waiting(task, step)
        found = self._doors.launcher.adopt(launch, sandbox_of(self._house, task.job).pilot / step)
        if not found:
            with self._lock:
                self._waiting.pop(launch, None)
        return found

    def _await_generation(self, task: Task, sandbox: Sandbox, before: str, patience: float) -> bool:
        """Only a payload that asked for checkpoints is waited for; its end ends the waiting."""
        if not task.job.spec.checkpoint_interval:
            return False
        launch = launch_of(task.job, "run")
        until = self._doors.clock.monotonic() + patience
        while not task.abandoned() and launch in self._waiting and self._doors.clock.monotonic() < until:
            if contract.newest_generation(sandbox) not in ("", before):
                return True
            with self._ended:
                self._ended.wait(_LOOK_SECONDS)
        return contract.newest_generation(sandbox) not in ("", before)


def _note_plan(sandbox: Sandbox, plan: RunPlan, words: int) -> None:
    """What was started, for `pilot job shell` and `rerun`; `words` counts the job's own command at the end."""
    said = {"root": str(sandbox.root), "argv": plan.argv, "words": words, "directory": plan.directory}
    text = json.dumps({**said, "environment": plan.environment, "isolation": to_plain(plan.isolation)})
    contract.write_file(sandbox.pilot / PLAN, text.encode(errors="surrogateescape"))


def _noted_isolation(sandbox: Sandbox) -> Isolation:
    """What an earlier pilot noted of the payload that it started."""
    try:
        return from_plain(Isolation, json.loads((sandbox.pilot / PLAN).read_text(encoding="utf-8"))["isolation"])
    except (OSError, ValueError, KeyError):
        return Isolation()


def _over_scratch(task: Task, sandbox: Sandbox) -> int:
    """What a payload that failed had written beyond its share: between two looks of the watch it may fill the disk."""
    limit = task.dossier.share.scratch_bytes
    return max(0, tree_bytes(sandbox.root) - limit) if limit else 0


def _orphaned(gone: Gone) -> bool:
    """Whether it was ended because pilot, supervisor or shim had died: no fault of the payload's."""
    return gone.stopped_by.endswith("-death")


def _restored(sandbox: Sandbox) -> str:
    marker = sandbox.pilot / "restored"
    return marker.read_text() if marker.exists() else ""


def _validated(task: Task, gone: Gone, sandbox: Sandbox) -> Fact:
    order = task.order
    valid = gone.exit_code == 0
    if not valid and _orphaned(gone):
        return Broke(order.key, order.ticket, order.kind, fault(Code.PILOT_RESTARTED, "validate step"), gone.gone)
    detail = "" if valid else _why(gone, sandbox)
    return Validated(order.key, order.ticket, valid, detail, gone.gone)


def _why(gone: Gone, sandbox: Sandbox) -> str:
    said = contract.tail(sandbox.logs / "validate.stderr") or contract.tail(sandbox.logs / "validate.stdout")
    last = said.strip().splitlines()[-1:] or [gone.error]
    how = f"signal {gone.signal}" if gone.signal else f"exit code {gone.exit_code}"
    return f"validate step: {how}: {last[0]}" if last[0] else f"validate step: {how}"
