"""What a node is, what this slot may use of it, and what is free now."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator; memory in bytes; `health` is ok, or what is wrong with it."""

    uuid: str
    vendor: str
    model: str
    memory_bytes: int
    capability: str = ""
    mig: str = ""
    health: str = "ok"


@dataclass(frozen=True, slots=True)
class View:
    """One view of resources, the node's or the slot's; sizes in bytes."""

    cpus: int
    memory_bytes: int
    scratch_bytes: int
    arch: str
    microarch: str
    accelerators: tuple[Accelerator, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit that was seen: its source (affinity, cgroup.../path, batch, config, node) and its value."""

    source: str
    value: int


@dataclass(frozen=True, slots=True)
class LimitedBy:
    """Which source won for each figure of the slot; `seen` lists every bound that was found."""

    cpus: str
    memory_bytes: str
    scratch_bytes: str
    seen: tuple[tuple[str, tuple[Bound, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class HostFinding:
    """What the host probe saw: the node, and every bound on the slot with its source.

    `numa` holds the cores of each NUMA node, `notes` what could not be read and why, `batch` the batch job's name.
    """

    host: str
    node: View
    cores: tuple[int, ...]
    cpus: tuple[Bound, ...]
    memory: tuple[Bound, ...]
    scratch: tuple[Bound, ...]
    cpu_model: str = ""
    numa_nodes: int = 1
    numa: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()
    batch: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeFinding:
    """What the container runtime can do here, tried rather than assumed."""

    name: str
    path: str = ""
    version: str = ""
    works: bool = False
    flags: tuple[str, ...] = ()
    network_none: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ImageAtHand:
    """One image of this node's store."""

    name: str
    path: str
    sha256: str
    form: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the node is, what the slot may use, what can run here; `probed` is UTC, ISO 8601.

    `numa` holds the cores of each NUMA node; `notes` says what could not be found out, and why; `batch` is the job
    in which the batch system runs this slot.
    """

    host: str
    node: View
    slot: View
    limited_by: LimitedBy
    cpu_model: str = ""
    numa_nodes: int = 1
    numa: tuple[tuple[int, ...], ...] = ()
    cores: tuple[int, ...] = ()
    runtime: RuntimeFinding = field(default_factory=lambda: RuntimeFinding("none"))
    images: tuple[ImageAtHand, ...] = ()
    labels: tuple[tuple[str, str | int | float | bool], ...] = ()
    scratch: str = ""
    probed: str = ""
    notes: tuple[str, ...] = ()
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What is free now, and for how long (`seconds`, 0 = no end known).

    `attributes` are the further ClassAd attributes that the node advertises, names as HTCondor writes them.
    """

    pilot_id: str
    host: str
    cpus: int
    memory_bytes: int
    scratch_bytes: int
    seconds: float = 0.0
    devices: tuple[Accelerator, ...] = ()
    runtime: str = "apptainer"
    images: tuple[str, ...] = ()
    arch: str = "x86_64"
    microarch: str = ""
    attributes: tuple[tuple[str, str | int | float | bool], ...] = ()
