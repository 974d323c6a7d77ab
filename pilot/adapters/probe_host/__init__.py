"""The `Probe` port on Linux: what the node is, and every bound on what this slot may use of it."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.probe_host import processor
from pilot.adapters.probe_host.cgroups import Allowed, allowed
from pilot.adapters.probe_host.files import Notes
from pilot.adapters.probe_host.grant import Granted, batch_id, granted
from pilot.model.capability import Bound, HostFinding, View

_SPARED = 20  # one part in so many of the free space is nobody's: a full disk would silence the pilot as well


@dataclass(frozen=True, slots=True)
class Limits:
    """What the site's configuration lets a slot use; sizes in bytes, 0 = no limit."""

    cpus: int = 0
    memory_bytes: int = 0
    scratch_bytes: int = 0


class HostProbe:
    """Reads /proc, /sys and the batch system's environment; `root` and `machine` let recorded nodes be read as well."""

    def __init__(
        self, environment: Mapping[str, str], limits: Limits | None = None, root: Path = Path("/"), machine: str = ""
    ) -> None:
        self._environment = environment
        self._limits = limits or Limits()
        self._root = root
        self._machine = machine or platform.machine()

    def look(self, scratch: Path) -> HostFinding:
        """What is here now; a figure that could not be had is left out of the bounds and said in the notes."""
        notes = Notes()
        groups = allowed(self._root, notes)
        grant, batch = granted(self._environment, notes), batch_id(self._environment, notes)
        online = processor.node_cores(self._root, notes)
        mask = processor.affinity(self._root, notes) & online or online
        cpuinfo = notes.head(self._root / "proc/cpuinfo")
        numa = processor.numa(self._root, notes)
        node = View(
            cpus=len(online),
            memory_bytes=processor.memory_bytes(self._root, notes),
            scratch_bytes=free_bytes(scratch, notes),
            arch=self._machine,
            microarch=processor.microarch(self._machine, cpuinfo),
        )
        return HostFinding(
            host=platform.node(),
            node=node,
            cores=tuple(sorted(_within(mask, groups))),
            cpus=self._cpus(node, len(mask), groups, grant),
            memory=self._memory(node, groups, grant),
            scratch=self._scratch(node, grant),
            cpu_model=processor.model(cpuinfo),
            numa_nodes=max(1, len(numa)),
            numa=numa,
            notes=tuple(dict.fromkeys(notes.lines)),
            batch=batch,
        )

    def _cpus(self, node: View, mask: int, groups: Allowed, grant: Granted) -> tuple[Bound, ...]:
        sets = (Bound(source, len(cores)) for source, cores in groups.cores)
        own = _own(self._limits.cpus, "cpus")
        return (Bound("node", node.cpus), Bound("affinity", mask), *sets, *groups.cpus, *grant.cpus, *own)

    def _memory(self, node: View, groups: Allowed, grant: Granted) -> tuple[Bound, ...]:
        total = _own(node.memory_bytes, "node", "")
        return (*total, *groups.memory, *grant.memory, *_own(self._limits.memory_bytes, "memory"))

    def _scratch(self, node: View, grant: Granted) -> tuple[Bound, ...]:
        free = node.scratch_bytes - node.scratch_bytes // _SPARED
        return (Bound("node", free), *grant.scratch, *_own(self._limits.scratch_bytes, "scratch_size"))


def _own(value: int, name: str, prefix: str = "config:") -> tuple[Bound, ...]:
    return (Bound(prefix + name, value),) if value else ()


def _within(mask: frozenset[int], groups: Allowed) -> frozenset[int]:
    """The cores of the mask that every cpuset has; the mask where they contradict each other."""
    inside = mask
    for _, cores in groups.cores:
        inside = inside & cores or inside
    return inside


def free_bytes(directory: Path, notes: Notes) -> int:
    """What an ordinary user may still write below the directory, or below where it will be made."""
    place = next((each for each in (directory, *directory.parents) if each.exists()), Path("/"))
    try:
        status = os.statvfs(place)
    except OSError as error:
        notes.add(str(place), error.strerror or str(error))
        return 0
    return status.f_bavail * status.f_frsize
