"""`pilot run --dry-run`: what would be claimed, and the exact command, without claiming or starting anything.

A queue at a distance gives a job only to whoever takes it, so there the dry run says what it would ask for.
"""

import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pilot.assemble.pilot import Places, images_of, offer_of, probe_node, runtime_of
from pilot.assemble.queue import matcher, queue_path
from pilot.assemble.server import credentials_of, is_remote
from pilot.config.settings import Settings
from pilot.core import ledger as books
from pilot.core.matching import Fit, fit, shape_of
from pilot.core.reporting import Dossier
from pilot.model.capability import Capabilities
from pilot.model.job import Grant, Job, JobSpec, Phase
from pilot.model.plain import to_plain
from pilot.model.queue import JobState, JobView
from pilot.ports import RunPlan, RunRequest, Sandbox
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from pilot.shell import contract

LOOKED_AT = 200  # waiting jobs that are looked at before saying that none fits


def show(settings: Settings, places: Places, style: str) -> Iterator[str]:
    """Tells the first waiting job that fits this slot, and what would be started for it."""
    node = probe_node(settings, places.scratch, places.cache)
    if is_remote(settings.queue):
        yield from _question(settings, node, style)
        return
    found = _first_fit(settings, node)
    if isinstance(found, str):
        yield json.dumps({"would_claim": None}) if style == "json" else f"nothing that waits fits this slot{found}"
        return
    plan = _plan(settings, places, node, found)
    yield from _as_json(found, plan) if style == "json" else _as_text(found, plan)


def _question(settings: Settings, node: Capabilities, style: str) -> Iterator[str]:
    """What a pilot here would ask a queue at a distance for; the server is greeted, and nothing else."""
    offer = offer_of("dry-run", node, node.slot, settings)
    kind = "a served queue" if _is_our_own(settings) else "a plain PanDA server"
    if style == "json":
        asked = {"queue": settings.queue, "queue_name": settings.queue_name, "kind": kind, "offer": to_plain(offer)}
        yield json.dumps({"would_claim": None, "would_ask": asked})
        return
    yield f"would ask {settings.queue}, {kind}, queue {settings.queue_name}, for a job that fits this slot:"
    yield f"  {offer.cpus} cores, {offer.memory_bytes:,} bytes of memory, {offer.scratch_bytes:,} bytes of scratch"
    for device in offer.devices:
        yield f"  {device.vendor} {device.model}, {device.memory_bytes:,} bytes"
    yield f"  {offer.arch} ({offer.microarch or 'level unknown'}), runtime {offer.runtime}"
    yield "nothing was claimed: which job it would be, such a queue says only to who takes it"


def _is_our_own(settings: Settings) -> bool:
    """Whether the server that answers there is a served queue of ours; else it is a plain PanDA server."""
    from pilot.adapters.server_calls import discovered
    from pilot.adapters.server_gate import Gate
    from pilot.adapters.server_http import HttpLine

    line = HttpLine(settings.queue, credentials_of(settings, os.environ), Gate(), settings.ca)
    try:
        return bool(discovered(line))
    finally:
        line.close()


def _first_fit(settings: Settings, node: Capabilities) -> JobView | str:
    """The job that would be given out first, in the queue's order; else what the first of those that wait lacks."""
    offer = offer_of("dry-run", node, node.slot, settings)
    store = open_store(queue_path(settings.queue))
    queue, judge = LocalQueue(store, matcher(), "", settings.queue_name), matcher()
    try:
        rows = queue.find((JobState.WAITING,), limit=LOOKED_AT)
        views = [each for each in (queue.show(row.job_id) for row in rows) if not each.waits_for]
        refused = ""
        for view in sorted(views, key=lambda each: -each.priority):
            found = fit(shape_of(view.spec, view.job.owner), offer, judge)
            if isinstance(found, Fit):
                return view
            said = f": {view.spec.name}: {found.clause}: wanted {found.wanted}, offered {found.offered}"
            refused = refused or said
        return refused
    finally:
        store.close()


def _plan(settings: Settings, places: Places, node: Capabilities, view: JobView) -> RunPlan:
    """Built in a sandbox of its own, which is removed again; the paths shown are those that a run would use."""
    runtime = runtime_of(settings, places.cache)
    ledger = books.open_ledger(node.slot, node.cores)
    _, share = books.grant(ledger, view.job.job_id, view.spec.needs)
    with tempfile.TemporaryDirectory(prefix="dry-", dir=places.scratch) as folder:
        sandbox = _furnish(Path(folder), view.spec)
        job = Job("dry-run", Phase.RUNNING, Grant(view.job.job_id, view.job.attempt + 1, view.spec, 60.0))
        granted = share or Dossier().share
        terms = contract.Terms(_deadline(granted.walltime_seconds), settings.grace, runtime.workdir(sandbox))
        contract.write_terms(job, granted, terms, sandbox, {})
        bare = settings.runtime == "bare" or not view.spec.image
        image = None if bare else images_of(settings, places.cache).resolve(view.spec.image, view.spec.image_sha256)
        environment = contract.environment(job, granted, terms)
        request = RunRequest(view.job.job_id, view.job.attempt + 1, view.spec, granted, sandbox, image)
        plan = runtime.prepare(replace(request, environment=environment, binds=settings.binds))
        real = str(places.scratch / "jobs" / f"{view.job.job_id}.{view.job.attempt + 1}")
        return replace(plan, argv=tuple(each.replace(folder, real) for each in plan.argv))


def _furnish(root: Path, spec: JobSpec) -> Sandbox:
    """A sandbox with empty files where inputs and code would lie, so that their binds are shown."""
    sandbox = Sandbox(root)
    for each in (sandbox.work, sandbox.home, sandbox.tmp, sandbox.inputs, sandbox.pilot, sandbox.logs, sandbox.code):
        each.mkdir(parents=True)
    names = [sandbox.inputs / each.name for each in spec.inputs]
    names += [sandbox.code / each for each in (spec.code.names if spec.code else ())]
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()
    return sandbox


def _deadline(walltime: int) -> float:
    return time.time() + walltime if walltime else 0.0


def _as_json(view: JobView, plan: RunPlan) -> Iterator[str]:
    said = {"job_id": view.job.job_id, "attempt": view.job.attempt + 1, "name": view.spec.name}
    yield json.dumps({"would_claim": {**said, "argv": list(plan.argv), "isolation": plan.isolation.container}})


def _as_text(view: JobView, plan: RunPlan) -> Iterator[str]:
    yield f"would claim {view.spec.name} ({view.job.job_id}, attempt {view.job.attempt + 1})"
    for each in view.spec.inputs:
        yield f"would stage in {each.url} as {each.name}"
    yield f"would run: {shlex.join(plan.argv)}"
    for output in view.spec.outputs:
        yield f"would store {output.name}"
