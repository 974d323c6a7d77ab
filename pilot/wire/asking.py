"""A pilot's offer as PanDA's questions for work: `acquire_jobs`, and the maps of worker nodes and their GPUs.

Every argument has exactly the type that the server checks for: it refuses a whole number where it wants a fraction.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilot.model.capability import Accelerator, Capabilities, Offer
from pilot.wire.bounds import least
from pilot.wire.envelope import Reply, WireError, shown
from pilot.wire.reading import Record, number, record, records, text
from pilot.wire.site import Room, Site
from pilot.wire.status import check_status

MIB = 1 << 20
GB = 10**9
_LONGEST_ID = 19  # digits: what a signed 64-bit number may take
TASK = "/api/v1/task/get_detailed_info"
NO_JOBS = "No jobs in PanDA"  # the only sign by which the server tells an empty queue from a failure
DRIVER = "GPUs_DriverVersion"  # HTCondor's name of the CUDA version that a driver brings
KERNEL_DRIVER = "GPUs_KernelDriverVersion"  # the driver's own version, for which HTCondor has no name: 575.57.08

# NVIDIA's compute capabilities, which the driver tells, by the generations as PanDA spells them.
_GENERATIONS = (
    (12, 0, "Blackwell"),
    (10, 0, "Blackwell"),
    (9, 0, "Hopper"),
    (8, 9, "Ada Lovelace"),
    (8, 0, "Ampere"),
    (7, 5, "Turing"),
    (7, 0, "Volta"),
    (6, 0, "Pascal"),
)

Arguments = dict[str, object]


def acquire(site: Site, offer: Offer, count: int, with_hardware: bool = True, kind: str = "") -> Arguments:
    """What is asked for `count` jobs that are to run beside one another on that offer, of that resource type."""
    scratch = least(offer.scratch_bytes, site.limits.scratch_bytes)
    asked: Arguments = {
        "site_name": site.resource,
        "computing_element": site.queue,
        "prod_source_label": site.label,
        "node": site.node,
        "memory": least(offer.memory_bytes // count, site.limits.memory_bytes) // MIB,
        "disk_space": scratch // MIB // count,
        "n_jobs": count,
    }
    wishes = {"resource_type": site.resource_type or kind, "job_type": site.job_type, "scheduler_id": site.scheduler}
    asked |= {name: value for name, value in wishes.items() if value}
    seconds = least(int(offer.seconds), site.limits.walltime_seconds)
    if seconds:
        asked["remaining_time"] = seconds
    if site.harvester and site.worker is not None:
        asked |= {"harvester_id": site.harvester, "worker_id": site.worker}
    if with_hardware:
        asked["target_architecture"] = {"gpus": gpu_list(site, offer)}
    return asked


def room_in(offer: Offer, count: int, with_hardware: bool) -> Room:
    """What each of `count` jobs may take of that offer."""
    kinds = {replace(each, uuid="", mig="") for each in offer.devices if each.health == "ok"}
    return Room(offer.memory_bytes // count, offer.scratch_bytes // count, with_hardware and len(kinds) == 1)


def task_to_ask(definition: Record) -> int | None:
    """The task whose wishes for devices the definition leaves out, if it belongs to one."""
    try:
        told = any(each in text(definition, "cmtConfig") for each in ("&", "{"))
        return None if told else number(definition, "taskID", 0) or None
    except WireError:  # whoever reads the definition says what is wrong with it
        return None


def architecture_in(reply: Reply) -> str:
    """The architecture field of the task in a `get_detailed_info` reply; "" where there is no such task."""
    if not reply.success or reply.data is None:
        return ""
    return text(record(reply.data, "task"), "architecture")


def refuses_hardware(reply: Reply) -> bool:
    """Whether the server is too old to be told about the node's hardware."""
    return not reply.success and "target_architecture" in reply.message and "rgument" in reply.message


def jobs_in(reply: Reply) -> Sequence[Record]:
    """The job definitions of an `acquire_jobs` reply; raises WireError for one that is none."""
    if not reply.success and reply.message.strip() == NO_JOBS:
        return ()
    data = check_status(reply)
    if "PandaID" in data:  # one job, as servers before the lists answered
        return (data,)
    return records(data.get("jobs"), "jobs")


# --- resource types --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type: its name, and how many cores a job of it may need."""

    name: str
    cores: int


def kinds_in(reply: Reply, queue_cores: int) -> tuple[Kind, ...]:
    """The resource types in a `get_resource_types` reply; a job of more than one core has the queue's usual cores."""
    if not reply.success:
        raise WireError(f"resource types: {shown(reply.message)}")
    return tuple(_kind(each, queue_cores) for each in records(reply.data, "resource types"))


def _kind(data: Record, queue_cores: int) -> Kind:
    least, most = number(data, "mincore", 1), number(data, "maxcore", 0)
    return Kind(text(data, "resource_name"), 1 if most == 1 else max(1, least, queue_cores))


def fitting(kinds: Sequence[Kind], cpus: int) -> tuple[str, ...]:
    """The types to ask for one by one where not all fit; ("",) = whatever there is, which a single question asks."""
    fit = tuple(each.name for each in kinds if each.cores <= cpus and each.name)
    return ("",) if not fit or len(fit) == len(kinds) else fit


# --- worker node maps ------------------------------------------------------------------------------------------------


def node_map(site: Site, node: Capabilities) -> Arguments:
    """The node, as `update_worker_node` takes it."""
    return {
        "site": site.site,
        "panda_queue": site.queue,
        "host_name": site.node,
        "cpu_model": node.cpu_model or "unknown",
        "n_logical_cpus": node.node.cpus,
        "cpu_architecture": node.node.arch,
        "cpu_architecture_level": node.node.microarch[:20],
        "total_memory": node.node.memory_bytes // MIB,
        "total_local_disk": node.node.scratch_bytes // GB,
    }


def gpu_maps(site: Site, offer: Offer) -> list[Arguments]:
    """The node's GPUs, one row for each kind, as `update_worker_node_gpu` takes them."""
    return [{name: value for name, value in each.items() if value != ""} for each in gpu_list(site, offer)]


def gpu_list(site: Site, offer: Offer) -> list[Arguments]:
    """The healthy GPUs by kind; host and site as in the node's own row, for PanDA joins the two."""
    healthy = [replace(each, uuid="", mig="") for each in offer.devices if each.health == "ok"]
    known = dict(offer.attributes)
    versions = str(known.get(DRIVER, "")), str(known.get(KERNEL_DRIVER, ""))
    return [_gpu(each, count, site, versions) for each, count in Counter(healthy).items()]


def _gpu(device: Accelerator, count: int, site: Site, versions: tuple[str, str]) -> Arguments:
    nvidia = device.vendor.lower() == "nvidia"
    found: Arguments = {
        "site": site.site,
        "host_name": site.node,
        "vendor": "NVIDIA" if nvidia else device.vendor,
        "model": device.model,
        "count": count,
        "vram": device.memory_bytes // MIB,
        "architecture": generation(device.capability) if nvidia else "",
        "framework": "CUDA" if nvidia else "",
        "framework_version": versions[0] if nvidia else "",
        "driver_version": versions[1],
    }
    return found


def generation(capability: str) -> str:
    """The name of an NVIDIA generation from its compute capability; "" where it has none that PanDA knows."""
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", capability)
    if found is None:
        return ""
    version = (int(found[1]), int(found[2]))
    return next((name for major, minor, name in _GENERATIONS if version >= (major, minor)), "")


# --- what is left of an attempt --------------------------------------------------------------------------------------


def statuses(reply: Reply) -> dict[str, tuple[str, int]]:
    """Status and attempt of each job in a `get_job_status` reply."""
    if not reply.success:
        raise WireError(f"get_job_status: {shown(reply.message)}")
    found: dict[str, tuple[str, int]] = {}
    for each in records(reply.data, "get_job_status"):
        job, status, attempt = each.get("job_id"), each.get("status"), each.get("attempt_number")
        if isinstance(job, bool) or not isinstance(job, int) or not isinstance(status, str):
            raise WireError(f"get_job_status: {shown(job)} is no job with a status")
        found[str(job)] = (status, attempt if isinstance(attempt, int) else -1)
    return found


def is_id(job_id: str) -> bool:
    """Whether a PanDA server can have given a job of that id."""
    return job_id.isascii() and job_id.isdigit() and len(job_id) < _LONGEST_ID


def id_of(job_id: str) -> int:
    """A job's id as the server wants it."""
    if not is_id(job_id):
        raise WireError(f"{shown(job_id)} is no id of a PanDA job")
    return int(job_id)
