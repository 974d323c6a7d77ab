"""What the slot may use: of every figure the smallest bound that was found, and which one it was."""

from collections.abc import Sequence
from dataclasses import replace

from pilot.core.reporting import iso
from pilot.model.capability import Bound, Capabilities, HostFinding, ImageAtHand, LimitedBy, RuntimeFinding

Labels = tuple[tuple[str, str | int | float | bool], ...]


def smallest(bounds: Sequence[Bound], node: int) -> Bound:
    """The bound that wins; the node's own figure where nothing else bounds it. The first of equals wins."""
    return min((*bounds, Bound("node", node)), key=lambda each: each.value)


def capabilities(
    found: HostFinding, runtime: RuntimeFinding, images: Sequence[ImageAtHand], labels: Labels, wall: float
) -> Capabilities:
    """What the node is and what the slot may use, from what the probes saw."""
    cpus = smallest(found.cpus, len(found.cores) or found.node.cpus)
    memory = smallest(found.memory, found.node.memory_bytes)
    scratch = smallest(found.scratch, found.node.scratch_bytes)
    seen = (("cpus", found.cpus), ("memory_bytes", found.memory), ("scratch_bytes", found.scratch))
    return Capabilities(
        host=found.host,
        node=found.node,
        slot=replace(found.node, cpus=cpus.value, memory_bytes=memory.value, scratch_bytes=scratch.value),
        limited_by=LimitedBy(cpus.source, memory.source, scratch.source, seen),
        cpu_model=found.cpu_model,
        numa_nodes=found.numa_nodes,
        numa=found.numa,
        cores=found.cores,
        runtime=runtime,
        images=tuple(images),
        labels=labels,
        probed=iso(wall),
        notes=found.notes,
        batch=found.batch,
    )
