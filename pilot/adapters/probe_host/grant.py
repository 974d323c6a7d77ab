"""What the batch system granted this slot, as its environment tells: cores, memory and scratch."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.probe_host.files import Notes
from pilot.model.capability import Bound

MIB = 1 << 20
KIB = 1 << 10

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Granted:
    """Bounds from the batch system, on each figure."""

    cpus: tuple[Bound, ...] = ()
    memory: tuple[Bound, ...] = ()
    scratch: tuple[Bound, ...] = ()


def granted(environment: Environment, notes: Notes) -> Granted:
    """Every bound that some batch system or the site's job features name."""
    found = [each(environment, notes) for each in SYSTEMS]
    return Granted(
        tuple(bound for each in found for bound in each.cpus),
        tuple(bound for each in found for bound in each.memory),
        tuple(bound for each in found for bound in each.scratch),
    )


def batch_id(environment: Environment, notes: Notes) -> str:
    """The job's name in the batch system that started this pilot, such as `slurm-4711`; "" outside of any."""
    for name, prefix in (("SLURM_JOB_ID", "slurm"), ("PBS_JOBID", "pbs"), ("LSB_JOBID", "lsf"), ("JOB_ID", "sge")):
        if environment.get(name):
            return f"{prefix}-{environment[name]}"
    ad = environment.get("_CONDOR_JOB_AD", "")
    found = dict(_JOB_LINE.findall(notes.text(Path(ad)))) if ad else {}
    return f"condor-{found['ClusterId']}.{found.get('ProcId', '0')}" if "ClusterId" in found else ""


_JOB_LINE = re.compile(r"^\s*(ClusterId|ProcId)\s*=\s*(\d{1,15})\s*$", re.MULTILINE)


def htcondor(environment: Environment, notes: Notes) -> Granted:
    """The slot's own ad: Memory is in MiB, Disk in KiB."""
    path = environment.get("_CONDOR_MACHINE_AD", "")
    if not path:
        return Granted()
    text = notes.text(Path(path))
    if not text:
        notes.add("_CONDOR_MACHINE_AD", f"{path} is empty or not there")
    figures = {name.lower(): int(value) for name, value in _AD_LINE.findall(text)}
    if text and (missing := [name for name in ("Cpus", "Memory", "Disk") if name.lower() not in figures]):
        notes.add("_CONDOR_MACHINE_AD", f"{path} names no {', '.join(missing)}: that figure is not bounded by it")
    return Granted(
        tuple(_bound("batch:HTCondor Cpus", figures.get("cpus"))),
        tuple(_bound("batch:HTCondor Memory", figures.get("memory"), MIB)),
        tuple(_bound("batch:HTCondor Disk", figures.get("disk"), KIB)),
    )


_AD_LINE = re.compile(r"^\s*(Cpus|Memory|Disk)\s*=\s*(\d{1,15})\s*$", re.IGNORECASE | re.MULTILINE)


def slurm(environment: Environment, notes: Notes) -> Granted:
    """The allocation on this node; inside a step of several tasks, this task's part of it. Sizes are in MiB."""
    if "SLURM_JOB_ID" not in environment and "SLURM_JOBID" not in environment:
        return Granted()
    tasks = _tasks_here(environment, notes)
    name, cpus = _slurm_cpus(environment, notes)
    memory = _slurm_memory(environment, notes, cpus or 1)
    per_task = _number(environment, "SLURM_CPUS_PER_TASK", notes) if tasks > 1 else None
    share = per_task or (max(1, cpus // tasks) if cpus else None)
    return Granted(
        tuple(_bound(f"batch:Slurm {'SLURM_CPUS_PER_TASK' if per_task else name}", share)),
        tuple(Bound(each.source, each.value // tasks) for each in memory),
    )


def _tasks_here(environment: Environment, notes: Notes) -> int:
    """How many tasks share this node's part; the batch script itself (no step, or a negative one) has it all."""
    step = environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID", ""))
    if not step.isdecimal() or int(step) >= 1 << 31:
        return 1
    return _per_node(environment, "SLURM_STEP_TASKS_PER_NODE", notes) or 1


def _slurm_cpus(environment: Environment, notes: Notes) -> tuple[str, int | None]:
    if found := _number(environment, "SLURM_CPUS_ON_NODE", notes):
        return "SLURM_CPUS_ON_NODE", found
    return "SLURM_JOB_CPUS_PER_NODE", _per_node(environment, "SLURM_JOB_CPUS_PER_NODE", notes)


def _slurm_memory(environment: Environment, notes: Notes, cpus: int) -> list[Bound]:
    gpus = _number(environment, "SLURM_GPUS_ON_NODE", notes) or 0
    scales = {"SLURM_MEM_PER_NODE": 1, "SLURM_MEM_PER_CPU": cpus, "SLURM_MEM_PER_GPU": gpus}
    return [  # 0 means all of the node's
        bound
        for name, scale in scales.items()
        for bound in _bound(f"batch:Slurm {name}", (_number(environment, name, notes) or 0) * scale or None, MIB)
    ]


def _per_node(environment: Environment, name: str, notes: Notes) -> int | None:
    """This node's entry of a list such as `8(x2),4`."""
    text = environment.get(name, "")
    if not text:
        return None
    entries: list[int] = []
    for part in text.split(","):
        match = _REPEATED.fullmatch(part.strip())
        if match is None:
            notes.add(name, f"not understood: {text[:40]!r}")
            return None
        entries += [int(match[1])] * int(match[2] or 1)
    node = environment.get("SLURM_NODEID", "0")
    return entries[int(node)] if node.isdecimal() and int(node) < len(entries) else min(entries)


_REPEATED = re.compile(r"(\d{1,6})(?:\(x(\d{1,5})\))?")


def pbs(environment: Environment, notes: Notes) -> Granted:
    """PBS and Torque name the cores of this node only."""
    if "PBS_JOBID" not in environment:
        return Granted()
    names = ("NCPUS", "PBS_NUM_PPN")
    return Granted(tuple(b for name in names for b in _bound(f"batch:PBS {name}", _number(environment, name, notes))))


def job_features(environment: Environment, notes: Notes) -> Granted:
    """The machine and job features of WLCG: one file per figure in the directory $JOBFEATURES."""
    place = environment.get("JOBFEATURES", "")
    if not place.startswith("/"):
        return Granted()

    def bounds(name: str) -> tuple[Bound, ...]:
        text = notes.text(Path(place) / name)
        return tuple(_bound(f"batch:JOBFEATURES {name}", int(text) if text.isdecimal() else None))

    return Granted(bounds("allocated_cpu"), bounds("max_rss_bytes"), bounds("scratch_limit_bytes"))


SYSTEMS: tuple[Callable[[Environment, Notes], Granted], ...] = (htcondor, slurm, pbs, job_features)


def _number(environment: Environment, name: str, notes: Notes) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 15:
        notes.add(name, f"not a number: {text[:40]!r}")
        return None
    return int(text)


def _bound(source: str, value: int | None, scale: int = 1) -> Iterator[Bound]:
    if value:
        yield Bound(source, value * scale)
