"""The smallest bound wins, and is named."""

from pilot.core.grants import capabilities, smallest
from pilot.model.capability import Bound, HostFinding, RuntimeFinding, View

NODE = View(8, 1000, 500, "x86_64", "x86_64-v3")


def test_the_smallest_bound_wins_and_the_first_of_equals() -> None:
    bounds = (Bound("affinity", 4), Bound("cgroup", 2), Bound("batch", 2))
    assert smallest(bounds, 8) == Bound("cgroup", 2)


def test_without_a_bound_the_node_is_the_bound() -> None:
    assert smallest((), 8) == Bound("node", 8)
    assert smallest((Bound("batch", 16),), 8) == Bound("node", 8)


def test_the_slot_is_the_smallest_of_everything() -> None:
    found = HostFinding("h", NODE, (0, 1, 2, 3), (Bound("cgroup", 2),), (Bound("batch", 700),), ())
    seen = capabilities(found, RuntimeFinding("none"), (), (("region", "eu"),), 0.0)
    assert (seen.slot.cpus, seen.slot.memory_bytes, seen.slot.scratch_bytes) == (2, 700, 500)
    assert (seen.limited_by.cpus, seen.limited_by.memory_bytes, seen.limited_by.scratch_bytes) == (
        "cgroup",
        "batch",
        "node",
    )
    assert (seen.cores, seen.labels, seen.probed) == ((0, 1, 2, 3), (("region", "eu"),), "1970-01-01T00:00:00.000Z")
    assert dict(seen.limited_by.seen)["memory_bytes"] == (Bound("batch", 700),)
