"""The composition root of `pilot probe` and `pilot doctor`: what this node is, and whether it is well."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pilot.adapters import host_checks
from pilot.assemble.pilot import HELPER, cache_of, images_of, offer_of, probe_node, search_of, servers_of
from pilot.assemble.server import is_remote
from pilot.assemble.server_checks import answers, credential_check, failed
from pilot.config.settings import Settings
from pilot.core.matching import node_ad
from pilot.model.capability import Capabilities, RuntimeFinding
from pilot.model.check import Check, Status
from pilot.model.faults import Code
from pilot.ports import PortError


def scratch_of(settings: Settings) -> Path:
    """Where sandboxes would be made: as configured, else the batch job's scratch, else the temporary place."""
    return Path(settings.scratch or os.environ.get("_CONDOR_SCRATCH_DIR") or tempfile.gettempdir())


def node_of(settings: Settings) -> Capabilities:
    """What this node is and what this slot may use."""
    return probe_node(settings, host_checks.nearest(scratch_of(settings)), cache_of(settings))


def advertised(settings: Settings, node: Capabilities) -> dict[str, object]:
    """The attributes that a queue is told, by HTCondor's names."""
    return node_ad(offer_of(f"{node.host}/probe", node, node.slot, settings))


def checks(settings: Settings) -> Iterator[Check]:
    """One after the other, so that each line appears when it is known."""
    place = scratch_of(settings)
    yield host_checks.python()
    yield host_checks.user_namespaces()
    yield host_checks.fuse()
    yield from _runtime(settings)
    yield host_checks.inherited(os.environ)
    yield host_checks.binds(settings.binds)
    yield host_checks.scratch(place)
    yield host_checks.state(Path(settings.state) if settings.state else place)
    yield host_checks.clock(place)
    yield _slot(settings)
    yield _images(settings)
    yield credential_check(settings, time.time())
    yield _queue(settings)


def _runtime(settings: Settings) -> Iterator[Check]:
    if settings.runtime == "bare":
        yield Check("container", Status.SKIP, "", "runtime is bare: payloads run without a container")
        return
    finding = _tried(settings)
    yield host_checks.apptainer_version(finding)
    yield host_checks.container(finding)
    yield host_checks.network(finding)


def _tried(settings: Settings) -> RuntimeFinding:
    """Tried now: a doctor believes no receipt."""
    from pilot.adapters.runtime_apptainer import ApptainerRuntime

    with tempfile.TemporaryDirectory(prefix="pilot-doctor-") as empty:
        return ApptainerRuntime(HELPER, Path(empty), search_of(settings, cache_of(settings))).check()


def _slot(settings: Settings) -> Check:
    node = node_of(settings)
    said = f"{node.slot.cpus} of {node.node.cpus} cores ({node.limited_by.cpus}), "
    said += f"{node.slot.memory_bytes >> 20} of {node.node.memory_bytes >> 20} MiB ({node.limited_by.memory_bytes})"
    if node.notes:
        return Check("slot", Status.WARN, "", f"{said}; {node.notes[0]}", "`pilot probe` shows every bound")
    return Check("slot", Status.OK, "", said)


def _images(settings: Settings) -> Check:
    if settings.runtime == "bare":
        return Check("images", Status.SKIP, "", "runtime is bare")
    found = images_of(settings, cache_of(settings)).at_hand()
    if not found:
        remedy = "pilot image build ml-base, or name a directory of images in PILOT_IMAGES"
        return Check("images", Status.WARN, Code.IMAGE_MISSING, f"none in {cache_of(settings)}/images", remedy)
    return Check("images", Status.OK, "", ", ".join(sorted({each.name for each in found})))


def _queue(settings: Settings) -> Check:
    if not settings.queue:
        return Check("queue", Status.SKIP, "", "none named", "name one with --queue or PILOT_QUEUE")
    try:
        if is_remote(settings.queue):
            return Check("queue", Status.OK, "", answers(settings))
        for each in servers_of(settings):
            each.close()
    except PortError as error:
        return failed("queue", error)
    return Check("queue", Status.OK, "", f"{settings.queue} answers")
