"""May this offer run this job, and if not, the first reason why not.

A job asks in *variants* of needs, the first that fits is taken; then its `requirements` and the node's own are
asked, each in the field's language (ClassAds, HTCondor's attribute names), through the matcher that is passed in.
Images at hand are advertised, so that an expression may prefer or demand them; they are not required.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from pilot.core.panda_words import unsaid
from pilot.core.versions import meets
from pilot.model.capability import Accelerator, Offer
from pilot.model.job import GpuNeeds, JobSpec, Needs
from pilot.model.queue import MatchMiss

MIB = 1 << 20
KIB = 1 << 10
NODE_REQUIREMENTS = "Requirements"  # the attribute of an offer that holds the site's own condition, as text
ARCHES = {"x86_64": "X86_64", "aarch64": "aarch64", "ppc64le": "ppc64le"}  # ours -> as HTCondor writes them

Ad = dict[str, object]


class Judge(Protocol):
    """What matching asks of a matcher: the first part of an expression that is not true, or None."""

    def why_not(self, expression: str, target: Ad, own: Ad) -> MatchMiss | None:
        """The first clause of `own`'s expression that does not hold against `target`; None = it holds."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All that matching looks at in a job: jobs of one shape fit the same offers."""

    owner: str
    container: bool
    network: str
    kind: str
    needs: tuple[Needs, ...]
    requirements: str = ""
    unsaid: str = ""  # what of it PanDA's words cannot say


@dataclass(frozen=True, slots=True)
class Fit:
    """The offer can run the job, by that variant of its needs."""

    variant: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first clause that refuses, what it wanted and what was offered; `depth` counts the clauses passed."""

    clause: str
    attribute: str
    wanted: str
    offered: str
    depth: int = 0


def shape_of(spec: JobSpec, owner: str) -> Shape:
    """The shape of that job."""
    return Shape(owner, bool(spec.image), spec.network, spec.kind, spec.needs, spec.requirements, unsaid(spec))


def fit(shape: Shape, offer: Offer, judge: Judge) -> Fit | Refusal:
    """The first variant that fits; else the refusal of the variant that came furthest."""
    refusals = []
    for number, needs in enumerate(shape.needs):
        refusal = _refusal(shape, needs, offer, judge)
        if refusal is None:
            return Fit(number)
        refusals.append(refusal)
    return max(refusals, key=lambda each: each.depth)


def _refusal(shape: Shape, needs: Needs, offer: Offer, judge: Judge) -> Refusal | None:
    clauses: tuple[Callable[[], Refusal | None], ...] = (
        lambda: _runtime(shape, offer),
        lambda: _less("needs.cpus", "Cpus", needs.cpus, offer.cpus),
        lambda: _less("needs.memory", "Memory", _up(needs.memory_bytes, MIB), offer.memory_bytes // MIB),
        lambda: _less("needs.scratch", "Disk", _up(needs.scratch_bytes, KIB), offer.scratch_bytes // KIB),
        lambda: _walltime(needs.walltime_seconds, offer.seconds),
        lambda: _gpus(needs.gpus, offer),
        lambda: _by_job(shape, needs, offer, judge),
        lambda: _by_node(shape, needs, offer, judge),
    )
    for depth, clause in enumerate(clauses):
        found = clause()
        if found is not None:
            return replace(found, depth=depth)
    return None


def _less(clause: str, attribute: str, wanted: int, offered: int) -> Refusal | None:
    return Refusal(clause, attribute, str(wanted), str(offered)) if offered < wanted else None


def _up(value: int, unit: int) -> int:
    return -(-value // unit)


def _runtime(shape: Shape, offer: Offer) -> Refusal | None:
    """Where the site runs jobs bare, images are not looked at; where it does not, a job has to name one."""
    if offer.runtime == "none":
        return Refusal("runtime", "Runtime", "a working runtime", "none")
    if not shape.container and offer.runtime != "bare":
        return Refusal("image", "Runtime", "bare (the job names no image)", offer.runtime)
    return None


def _walltime(wanted: int, seconds: float) -> Refusal | None:
    if not wanted or not seconds or seconds >= wanted:
        return None
    return Refusal("needs.walltime", "SecondsLeft", str(wanted), str(int(seconds)))


# --- accelerators -------------------------------------------------------------------------------------------


def _gpus(needs: GpuNeeds, offer: Offer) -> Refusal | None:
    """Counts the healthy devices that have the memory, then the capability; then asks for the driver."""
    if needs.count == 0:
        return None
    healthy = [each for each in offer.devices if each.health == "ok"]
    roomy = [each for each in healthy if each.memory_bytes >= needs.memory_bytes]
    able = [each for each in roomy if meets(each.capability, needs.capability)]
    if len(healthy) < needs.count:
        return Refusal("needs.gpus.count", "GPUs", str(needs.count), str(len(healthy)))
    if len(roomy) < needs.count:
        offered = _listed(each.memory_bytes // MIB for each in healthy)
        return Refusal("needs.gpus.memory", "GPUs_GlobalMemoryMb", str(_up(needs.memory_bytes, MIB)), offered)
    if len(able) < needs.count:
        offered = _listed(each.capability or "undefined" for each in roomy)
        return Refusal("needs.gpus.capability", "GPUs_Capability", needs.capability, offered)
    return _cuda(needs.cuda, offer)


def _cuda(condition: str, offer: Offer) -> Refusal | None:
    version = str(dict(offer.attributes).get("GPUs_DriverVersion", ""))
    if meets(version, condition):
        return None
    return Refusal("needs.gpus.cuda", "GPUs_DriverVersion", condition, version or "undefined")


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(each) for each in values}))


# --- expressions, both ways ---------------------------------------------------------------------------------


def _by_job(shape: Shape, needs: Needs, offer: Offer, judge: Judge) -> Refusal | None:
    if not shape.requirements:
        return None
    return _missed("requirements", judge.why_not(shape.requirements, node_ad(offer), job_ad(shape, needs)))


def _by_node(shape: Shape, needs: Needs, offer: Offer, judge: Judge) -> Refusal | None:
    condition = dict(offer.attributes).get(NODE_REQUIREMENTS, "")
    if condition == "":
        return None
    return _missed("node requirements", judge.why_not(str(condition), job_ad(shape, needs), node_ad(offer)))


def _missed(clause: str, miss: MatchMiss | None) -> Refusal | None:
    return None if miss is None else Refusal(clause, miss.attribute, miss.clause, miss.offered)


def job_ad(shape: Shape, needs: Needs) -> Ad:
    """The job as a node's expression sees it."""
    return {
        "Owner": shape.owner,
        "JobKind": shape.kind,
        "RequestCpus": needs.cpus,
        "RequestMemory": _up(needs.memory_bytes, MIB),
        "RequestDisk": _up(needs.scratch_bytes, KIB),
        "RequestGPUs": needs.gpus.count,
        "RequestWalltime": needs.walltime_seconds,
        "WantContainer": shape.container,
        "WantNetwork": shape.network,
        "PandaCannotSay": shape.unsaid,
    }


def node_ad(offer: Offer) -> Ad:
    """The node as a job's expression sees it; what the site adds stands beside what was probed, never above it."""
    probed: Ad = {
        "Machine": offer.host,
        "Name": offer.pilot_id,
        "Cpus": offer.cpus,
        "Memory": offer.memory_bytes // MIB,
        "Disk": offer.scratch_bytes // KIB,
        "Arch": ARCHES.get(offer.arch, offer.arch),
        "OpSys": "LINUX",
        "Microarch": offer.microarch,
        "HasSingularity": offer.runtime == "apptainer",
        "Runtime": offer.runtime,
        "Images": list(offer.images),
        **_device_ad([each for each in offer.devices if each.health == "ok"]),
    }
    added = {name: value for name, value in offer.attributes if name != NODE_REQUIREMENTS}
    return {**added, **({"SecondsLeft": int(offer.seconds)} if offer.seconds else {}), **probed}


def _device_ad(devices: list[Accelerator]) -> Ad:
    """Common properties as HTCondor gives them; where devices differ, the least of them, which all can keep."""
    if not devices:
        return {"GPUs": 0}
    ad: Ad = {"GPUs": len(devices), "GPUs_GlobalMemoryMb": min(each.memory_bytes for each in devices) // MIB}
    capabilities = [each.capability for each in devices]
    if all(re.fullmatch(r"\d+\.\d+", each) for each in capabilities):
        ad["GPUs_Capability"] = min(map(float, capabilities))
    if len({each.model for each in devices}) == 1:
        ad["GPUs_DeviceName"] = devices[0].model
    return ad
