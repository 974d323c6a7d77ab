"""Nothing is granted twice; everything comes back, or is retired."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.core.ledger import Ledger, can_ever, free, give_back, grant, hold, open_ledger, why_never
from pilot.model.capability import Accelerator, View
from pilot.model.job import GpuNeeds, Needs, Share

GIB = 2**30
SEQUENCES = int(os.environ.get("PILOT_LEDGER_SEQUENCES", "10000"))  # the soak asks for 100,000


def device(name: str, memory: int = 16, capability: str = "8.0", health: str = "ok") -> Accelerator:
    return Accelerator(name, "nvidia", "A", memory * GIB, capability, health=health)


SLOT = View(8, 16 * GIB, 80 * GIB, "x86_64", "x86_64-v3", (device("a"), device("b", 40, "9.0"), device("c")))


def empty(slot: View = SLOT) -> Ledger:
    return open_ledger(slot, tuple(range(10, 18)))


def test_a_grant_takes_the_lowest_cores_and_what_was_asked() -> None:
    ledger, share = grant(empty(), "k", (Needs(2, GIB, 5 * GIB, 60),))
    assert share == Share((10, 11), GIB, 5 * GIB, (), 60)
    assert free(ledger) == View(6, 15 * GIB, 75 * GIB, "x86_64", "x86_64-v3", SLOT.accelerators)
    assert ledger.share("k") == share
    assert ledger.share("other") is None


def test_who_names_no_memory_and_scratch_gets_a_fair_part() -> None:
    ledger = empty()
    for number in range(8):
        ledger, share = grant(ledger, str(number), (Needs(),))
        assert share == Share((10 + number,), 2 * GIB, 10 * GIB)
    assert grant(ledger, "9", (Needs(),)) == (ledger, None)


def test_the_first_variant_that_fits_now_is_taken() -> None:
    variants = (Needs(gpus=GpuNeeds(4)), Needs(4), Needs(1))
    _, share = grant(empty(), "k", variants)
    assert share is not None
    assert len(share.cpus) == 4


def test_asking_again_gives_the_same_share() -> None:
    ledger, share = grant(empty(), "k", (Needs(2),))
    assert grant(ledger, "k", (Needs(3),)) == (ledger, share)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (GpuNeeds(1), ("a",)),
        (GpuNeeds(2), ("a", "c")),
        (GpuNeeds(1, 20 * GIB), ("b",)),
        (GpuNeeds(1, capability=">=9.0"), ("b",)),
        (GpuNeeds(3), ("a", "c", "b")),
        (GpuNeeds(2, 20 * GIB), None),
        (GpuNeeds(1, capability=">=9.1"), None),
    ],
)
def test_devices_that_suit_the_smallest_first(gpus: GpuNeeds, expected: tuple[str, ...] | None) -> None:
    _, share = grant(empty(), "k", (Needs(gpus=gpus),))
    assert (share.devices if share else None) == expected


def test_a_device_that_is_not_well_is_not_there() -> None:
    ledger = open_ledger(View(1, 0, 0, "x86_64", "", (device("a", health="ecc"),)), (0,))
    assert not can_ever(ledger, (Needs(gpus=GpuNeeds(1)),))


def test_what_never_fits_says_which_need_what_was_wanted_and_what_is_there() -> None:
    assert why_never(empty(), (Needs(64, GIB, GIB),)) == "64 cores wanted, 8 here"
    assert "500000 MiB of memory wanted, 16384 here" in why_never(empty(), (Needs(1, 500000 << 20, GIB),))
    assert why_never(empty(), (Needs(1, gpus=GpuNeeds(2, 20 * GIB)),)) == "2 devices of the kind wanted, 1 here"


def test_can_ever_counts_shares_that_will_come_back_but_not_the_retired() -> None:
    ledger, _ = grant(empty(), "k", (Needs(8),))
    assert can_ever(ledger, (Needs(8),))
    assert not can_ever(ledger, (Needs(9),))
    retired = give_back(ledger, "k", retire=True)
    assert not can_ever(retired, (Needs(1),))
    assert free(retired).cpus == 0


def test_a_retired_share_takes_its_part_out_of_the_fair_part() -> None:
    ledger, _ = grant(empty(), "k", (Needs(4, 12 * GIB),))
    retired = give_back(ledger, "k", retire=True)
    _, share = grant(retired, "l", (Needs(4),))
    assert share is not None
    assert share.memory_bytes == 4 * GIB


def test_giving_back_nothing_changes_nothing() -> None:
    assert give_back(empty(), "k") == empty()


def test_a_payload_found_running_holds_what_it_held_but_only_what_is_there() -> None:
    ledger = hold(empty(), "k", Share((10, 99), 20 * GIB, 5 * GIB, ("a", "gone")))
    assert ledger.share("k") == Share((10,), 16 * GIB, 5 * GIB, ("a",))
    assert total(give_back(ledger, "k")) == total(empty())


def test_of_many_cores_only_the_granted_number_is_used() -> None:
    assert open_ledger(View(2, 0, 0, "x86_64", ""), (4, 5, 6, 7)).cpus == frozenset({4, 5})


def total(ledger: Ledger) -> tuple[list[int], int, int, list[str]]:
    """Everything there is, wherever it is; raises no error when something is there twice: the lists show it."""
    shares = [share for _, share in ledger.shares] + list(ledger.retired)
    return (
        sorted([*ledger.cpus, *(each for share in shares for each in share.cpus)]),
        ledger.memory_bytes + sum(share.memory_bytes for share in shares),
        ledger.scratch_bytes + sum(share.scratch_bytes for share in shares),
        sorted([*(each.uuid for each in ledger.devices), *(each for share in shares for each in share.devices)]),
    )


NEEDS = st.builds(
    Needs,
    cpus=st.integers(1, 9),
    memory_bytes=st.sampled_from((0, GIB, 5 * GIB)),
    scratch_bytes=st.sampled_from((0, 7 * GIB)),
    gpus=st.builds(GpuNeeds, st.integers(0, 3), st.sampled_from((0, 20 * GIB))),
)
KEYS = st.sampled_from("abcde")
DEEDS = st.one_of(
    st.tuples(st.just("grant"), KEYS, st.tuples(NEEDS)),
    st.tuples(st.just("back"), KEYS, st.booleans()),
    st.tuples(st.just("hold"), KEYS, st.tuples(st.integers(8, 19), st.sampled_from("abcd"))),
)


Deed = tuple[str, str, object]


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(DEEDS, max_size=12))
def test_nothing_is_held_twice_and_nothing_is_lost(deeds: list[Deed]) -> None:
    keeps_the_whole(deeds)


def test_nor_in_many_random_sequences() -> None:
    chance = random.Random(20_261)
    for _ in range(SEQUENCES):
        keeps_the_whole([random_deed(chance) for _ in range(chance.randint(1, 10))])


def random_deed(chance: random.Random) -> Deed:
    verb, key = chance.choice(("grant", "grant", "back", "hold")), chance.choice("abcde")
    if verb == "back":
        return verb, key, chance.random() < 0.2
    if verb == "hold":
        return verb, key, (chance.randint(8, 19), chance.choice("abcd"))
    gpus = GpuNeeds(chance.randint(0, 3), chance.choice((0, 20 * GIB)))
    return (
        verb,
        key,
        (Needs(chance.randint(1, 9), chance.choice((0, GIB, 5 * GIB)), chance.choice((0, GIB)), gpus=gpus),),
    )


def keeps_the_whole(deeds: list[Deed]) -> None:
    ledger, whole = empty(), WHOLE
    for verb, key, what in deeds:
        ledger = done(ledger, verb, key, what)
        assert total(ledger) == whole
        assert min(ledger.memory_bytes, ledger.scratch_bytes) >= 0
        assert len({each for each, _ in ledger.shares}) == len(ledger.shares)
    for key in "abcde":
        ledger = give_back(ledger, key)
    assert total(ledger) == whole
    assert not ledger.shares


def done(ledger: Ledger, verb: str, key: str, what: object) -> Ledger:
    if verb == "grant":
        granted, share = grant(ledger, key, what)  # type: ignore[arg-type]
        assert (share is None) == (granted == ledger and ledger.share(key) is None)
        if share is None and not ledger.shares:
            assert not can_ever(ledger, what)  # type: ignore[arg-type]
        return granted
    if verb == "back":
        return give_back(ledger, key, retire=bool(what))
    core, uuid = what  # type: ignore[misc]
    return hold(ledger, key, Share((core,), GIB, GIB, (uuid,)))


WHOLE = total(empty())
