"""Who holds what: cores, memory, scratch and devices of the slot, each unit with one holder at most.

At every moment the slot is the sum of what is free, what is held, and what is retired. A share that comes back
from a payload whose end could not be proven is retired whole: a process that may still run may still use its
cores and memory as well as its devices.

What a job does not ask for it still uses. A job that names no memory or no scratch gets its *fair part*, in
proportion to its cores, so that a slot of eight cores holds eight such jobs of one core.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pilot.core.versions import meets
from pilot.model.capability import Accelerator, View
from pilot.model.copies import replace
from pilot.model.job import GpuNeeds, Needs, Share

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is free (`cpus`, `memory_bytes`, `scratch_bytes`, `devices`), held (`shares`, by key) and retired."""

    slot: View
    cpus: frozenset[int]
    memory_bytes: int
    scratch_bytes: int
    devices: tuple[Accelerator, ...] = ()
    shares: tuple[tuple[str, Share], ...] = ()
    retired: tuple[Share, ...] = ()

    def share(self, key: str) -> Share | None:
        """What the job holds, if it holds anything."""
        return next((share for each, share in self.shares if each == key), None)


def open_ledger(slot: View, cores: Sequence[int]) -> Ledger:
    """The ledger of an empty slot; of `cores`, the first `slot.cpus` may be used."""
    healthy = tuple(each for each in slot.accelerators if each.health == "ok")
    usable = frozenset(cores[: slot.cpus])
    whole = replace(slot, cpus=len(usable), accelerators=healthy)
    return Ledger(whole, usable, slot.memory_bytes, slot.scratch_bytes, healthy)


def free(ledger: Ledger) -> View:
    """What may be offered now."""
    return replace(
        ledger.slot,
        cpus=len(ledger.cpus),
        memory_bytes=ledger.memory_bytes,
        scratch_bytes=ledger.scratch_bytes,
        accelerators=ledger.devices,
    )


def grant(ledger: Ledger, key: str, variants: Sequence[Needs]) -> tuple[Ledger, Share | None]:
    """A share for the first variant that fits now; None = it has to wait. Who holds a share keeps that one."""
    held = ledger.share(key)
    if held is not None:
        return ledger, held
    now, whole = free(ledger), _usable(ledger)
    fitting = next((each for each in variants if _fits(now, _filled(each, whole))), None)
    if fitting is None:
        return ledger, None
    share = _cut(ledger, _filled(fitting, whole))
    return hold(ledger, key, share), share


def can_ever(ledger: Ledger, variants: Sequence[Needs]) -> bool:
    """Whether some variant would fit if every share were back."""
    whole = _usable(ledger)
    return any(_fits(whole, _filled(each, whole)) for each in variants)


def why_never(ledger: Ledger, variants: Sequence[Needs]) -> str:
    """What of the job's needs, of its first variant, is more than this slot ever has."""
    whole = _usable(ledger)
    needs = _filled(variants[0], whole)
    suit = len(suited(whole.accelerators, needs.gpus)) if needs.gpus.count else 0
    measured = (
        ("cores", needs.cpus, whole.cpus),
        ("MiB of memory", -(-needs.memory_bytes // MIB), whole.memory_bytes // MIB),
        ("MiB of scratch space", -(-needs.scratch_bytes // MIB), whole.scratch_bytes // MIB),
        ("devices of the kind", needs.gpus.count, suit),
    )
    short = [f"{wanted} {what} wanted, {there} here" for what, wanted, there in measured if wanted > there]
    return "; ".join(short) or "the job's needs are larger than this slot"


def hold(ledger: Ledger, key: str, share: Share) -> Ledger:
    """That very share is taken: by a grant, or by a payload found running after a restart.

    Who holds a share keeps that one. What is not free is not taken, so a slot that has shrunk meanwhile never
    counts a unit twice.
    """
    if ledger.share(key) is not None:
        return ledger
    taken = replace(
        share,
        cpus=tuple(each for each in share.cpus if each in ledger.cpus),
        memory_bytes=min(share.memory_bytes, ledger.memory_bytes),
        scratch_bytes=min(share.scratch_bytes, ledger.scratch_bytes),
        devices=tuple(each.uuid for each in ledger.devices if each.uuid in share.devices),
    )
    return replace(
        ledger,
        cpus=ledger.cpus.difference(taken.cpus),
        memory_bytes=ledger.memory_bytes - taken.memory_bytes,
        scratch_bytes=ledger.scratch_bytes - taken.scratch_bytes,
        devices=tuple(each for each in ledger.devices if each.uuid not in taken.devices),
        shares=(*ledger.shares, (key, taken)),
    )


def give_back(ledger: Ledger, key: str, retire: bool = False) -> Ledger:
    """The share comes back, or is retired; a key that holds nothing changes nothing."""
    share = ledger.share(key)
    if share is None:
        return ledger
    others = tuple(each for each in ledger.shares if each[0] != key)
    if retire:
        return replace(ledger, shares=others, retired=(*ledger.retired, share))
    back = tuple(each for each in ledger.slot.accelerators if each.uuid in share.devices)
    return replace(
        ledger,
        cpus=ledger.cpus.union(share.cpus),
        memory_bytes=ledger.memory_bytes + share.memory_bytes,
        scratch_bytes=ledger.scratch_bytes + share.scratch_bytes,
        devices=(*ledger.devices, *back),
        shares=others,
    )


def _usable(ledger: Ledger) -> View:
    """The slot without what is retired."""
    if not ledger.retired:
        return ledger.slot
    gone = {uuid for share in ledger.retired for uuid in share.devices}
    return replace(
        ledger.slot,
        cpus=ledger.slot.cpus - sum(len(each.cpus) for each in ledger.retired),
        memory_bytes=ledger.slot.memory_bytes - sum(each.memory_bytes for each in ledger.retired),
        scratch_bytes=ledger.slot.scratch_bytes - sum(each.scratch_bytes for each in ledger.retired),
        accelerators=tuple(each for each in ledger.slot.accelerators if each.uuid not in gone),
    )


def _filled(needs: Needs, whole: View) -> Needs:
    """The needs, with a fair part of what was not asked for."""
    if needs.memory_bytes and needs.scratch_bytes:
        return needs
    part = min(needs.cpus, whole.cpus)
    return replace(
        needs,
        memory_bytes=needs.memory_bytes or whole.memory_bytes * part // max(1, whole.cpus),
        scratch_bytes=needs.scratch_bytes or whole.scratch_bytes * part // max(1, whole.cpus),
    )


def _fits(view: View, needs: Needs) -> bool:
    return (
        needs.cpus <= view.cpus
        and needs.memory_bytes <= view.memory_bytes
        and needs.scratch_bytes <= view.scratch_bytes
        and (not needs.gpus.count or needs.gpus.count <= len(suited(view.accelerators, needs.gpus)))
    )


def suited(devices: Sequence[Accelerator], needs: GpuNeeds) -> tuple[Accelerator, ...]:
    """The devices that would do, the smallest first, so that a large one is kept for who needs it."""
    fit = (
        each for each in devices if each.memory_bytes >= needs.memory_bytes and meets(each.capability, needs.capability)
    )
    return tuple(sorted(fit, key=lambda each: (each.memory_bytes, each.uuid)))


def _cut(ledger: Ledger, needs: Needs) -> Share:
    chosen = suited(ledger.devices, needs.gpus)[: needs.gpus.count]
    return Share(
        cpus=tuple(sorted(ledger.cpus)[: needs.cpus]),
        memory_bytes=needs.memory_bytes,
        scratch_bytes=needs.scratch_bytes,
        devices=tuple(each.uuid for each in chosen),
        walltime_seconds=needs.walltime_seconds,
    )
