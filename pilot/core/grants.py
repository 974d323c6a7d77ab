"""What the slot may use: the smallest of every bound that was found, and which one that was."""

from collections.abc import Sequence
from dataclasses import replace

from pilot.model.capability import Bound, LimitedBy, View

Bounds = Sequence[Bound]


def slot_of(node: View, cpus: Bounds, memory: Bounds, scratch: Bounds) -> tuple[View, LimitedBy]:
    """The slot's view of the node, and which source won for each figure; of equal bounds the first one is named."""
    least = [_smallest(each) for each in (cpus, memory, scratch)]
    view = replace(node, cpus=least[0].value, memory_bytes=least[1].value, scratch_bytes=least[2].value)
    seen = (("cpus", tuple(cpus)), ("memory_bytes", tuple(memory)), ("scratch_bytes", tuple(scratch)))
    return view, LimitedBy(least[0].source, least[1].source, least[2].source, seen)


def _smallest(bounds: Bounds) -> Bound:
    return min(bounds, key=lambda each: each.value, default=Bound("unknown", 0))
