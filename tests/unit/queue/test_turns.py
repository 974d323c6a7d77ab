"""Fair shares, patience, reservations: as pilots and users of a queue meet them."""

from collections import Counter
from collections.abc import Sequence

import pytest

from pilot.core.reserving import RESERVE_AFTER_SECONDS, RESERVED_SECONDS
from pilot.core.turns import OVERDUE_EVERY, PATIENCE_SECONDS
from pilot.model.capability import Offer
from pilot.model.job import Grant, Verdict
from pilot.model.queue import JobState, QueueState
from pilot.model.report import Report
from pilot.ports import Server, Unclaim
from pilot.queue.local import LocalServer
from tests.contracts.server_beds import LocalBed, ask, fresh_ids, job, needs, offer

IDS = fresh_ids()


def take(pilot: Server, number: int = 1, by: Offer | None = None) -> list[Grant]:
    found = pilot.claim(ask(*(next(IDS) for _ in range(number)), by=by))
    return [each for each in found if each is not None]


def end(pilot: Server, grants: Sequence[Grant]) -> None:
    pilot.report([Report(each.job_id, each.attempt, each.spec.name, Verdict.SUCCEEDED, "", "") for each in grants])


def owners(grants: Sequence[Grant]) -> str:
    return "".join(each.owner[0] for each in grants)


# --- shares ---


def test_owners_take_turns(bed: LocalBed) -> None:
    bed.user("ada").add([job(f"a{each}", priority=100) for each in range(20)])
    bed.user("bob").add([job(f"b{each}") for each in range(4)])
    bed.user("cyd").add([job(f"c{each}") for each in range(2)])
    grants = take(bed.pilot(), 12)
    assert owners(grants) == "abcabcababaa"


def test_who_used_less_goes_first_until_it_is_even(bed: LocalBed) -> None:
    pilot = bed.pilot()
    bed.user("ada").add([job(f"a{each}", needs=needs(4)) for each in range(48)])
    for _ in range(24):
        used = take(pilot, 2)
        bed.clock.move(3600)
        end(pilot, used)
    bed.user("bob").add([job(f"b{each}", needs=needs(1)) for each in range(9)])
    bed.user("ada").add([job(f"more{each}", needs=needs(1)) for each in range(9)])
    assert owners(take(pilot, 9))[:4] == "bbbb"  # ada held eight cores for a day: four are left of that
    assert Counter(owners(take(pilot, 5)))["a"] >= 2


def test_a_core_hour_counts_for_any_number_of_jobs(bed: LocalBed) -> None:
    """One job of eight cores, or eight of one: the same use, the same turn afterwards."""
    pilot = bed.pilot()
    bed.user("ada").add([job("wide", needs=needs(8))])
    bed.user("bob").add([job(f"narrow{each}", needs=needs(1)) for each in range(8)])
    running = take(pilot, 9, offer(cpus=64))
    assert len(running) == 9
    bed.clock.move(3600)
    end(pilot, running)
    with bed.store().reading() as db:
        used = {row["owner"]: row["recent"] for row in db.execute("SELECT owner, recent FROM share")}
    assert used["ada"] == pytest.approx(used["bob"])
    assert used["ada"] == pytest.approx(8 * (1 - 0.5 ** (1 / 24)))


@pytest.mark.parametrize("how", ["report", "give back", "silence"])
def test_whatever_ends_an_attempt_is_charged(bed: LocalBed, how: str) -> None:
    pilot = bed.pilot()
    bed.user("ada").add([job("a", needs=needs(4))])
    (claim,) = ask("x")
    (grant,) = pilot.claim([claim])
    assert grant is not None
    bed.clock.move(50)
    if how == "report":
        end(pilot, [grant])
    elif how == "give back":
        pilot.give_back([Unclaim("x")])
    else:
        bed.clock.move(3000)
        bed.pilot().claim(ask("y", by=offer("p9", cpus=1)))
    with bed.store().reading() as db:
        (row,) = db.execute("SELECT running, recent FROM share WHERE owner = 'ada'").fetchall()
    assert row["running"] == 0
    assert row["recent"] > 0.0


def test_in_state_test_shares_do_not_matter(bed: LocalBed) -> None:
    bed.user().add([job("mine"), job("mine too")])
    bed.user("guest").add([job("theirs")])
    bed.set_state(QueueState.TEST)
    assert owners(take(bed.pilot(), 3)) == "oo"


def test_share_is_told_by_explain(bed: LocalBed) -> None:
    pilot = bed.pilot()
    bed.user("ada").add([job(f"a{each}", needs=needs(3)) for each in range(9)])
    assert owners(take(pilot, 2)) == "aa"
    bed.user("bob").add([job("b")])
    found = bed.user("ada").explain("a4")
    assert (found.clause, found.attribute) == ("share", "use")
    assert found.offered == (
        "ada uses 6.0 cores, now and of late; 1 who use less go first (bob: 0.0); 2 jobs are ahead of ada's own"
    )
    assert bed.user("bob").explain("b").clause == "order"


def test_a_lease_that_has_run_out_is_told_as_what_it_is(bed: LocalBed) -> None:
    user = bed.user("ada")
    user.add([job("a")])
    (grant,) = take(bed.pilot())
    assert user.explain(grant.job_id).offered.endswith(" or longer")
    bed.clock.move(grant.lease_seconds + 1)
    said = user.explain(grant.job_id).offered
    assert "is silent: its lease of attempt 1 ran out at " in said
    assert "or longer" not in said


# --- patience ---


def served(bed: LocalBed, pilot: Server, rounds: int, refill: str) -> list[str]:
    """One grant a minute, while another owner's or a higher job comes in each time."""
    found = []
    for number in range(rounds):
        user = bed.user("bob")
        user.add([job(f"{refill}{number}-{next(IDS)}", priority=9, needs=needs(2))])
        grants = take(pilot)
        found += [each.spec.name for each in grants]
        end(pilot, grants)
        bed.clock.move(60)
    return found


def test_a_lane_is_not_passed_over_for_ever(bed: LocalBed) -> None:
    """The same owner's jobs of a higher priority come in all the time."""
    bed.user("bob").add([job("low")])
    pilot = bed.pilot()
    names = served(bed, pilot, 30, "high")
    limit = PATIENCE_SECONDS / 60 + OVERDUE_EVERY
    assert 10 <= names.index("low") <= limit


def test_in_a_crowd_three_grants_of_four_go_by_turn(bed: LocalBed) -> None:
    bed.user("ada").add([job(f"low{each}", needs=needs(1, walltime_seconds=60 + each)) for each in range(8)])
    bed.user("ada").add([job(f"high{each}", priority=5) for each in range(24)])
    bed.clock.move(PATIENCE_SECONDS)
    names = [each.spec.name for each in take(bed.pilot(), 32)]
    late = [number for number, name in enumerate(names) if name.startswith("low")]
    assert late == [3, 7, 11, 15, 19, 23, 27, 31]


def test_pilots_in_step_do_not_keep_a_lane_waiting(bed: LocalBed) -> None:
    """Of four pilots that ask in turn only one can run it, and it asks when it is not a late turn by count."""
    bed.user("ada").add([job("special", needs=needs(4, gpus=0, memory_bytes=6 << 30))])
    bed.user("bob").add([job(f"b{each}", priority=9) for each in range(100)])
    bed.user("ada").add([job(f"a{each}", priority=9) for each in range(100)])
    bed.clock.move(PATIENCE_SECONDS)
    pilots = [(bed.pilot(), offer(f"p{each}", cpus=4 if each == 0 else 1)) for each in range(4)]
    names = []
    for _ in range(3):
        for pilot, by in pilots:
            names += [each.spec.name for each in take(pilot, 1, by)]
    assert "special" in names


def test_a_low_priority_is_passed_over_for_a_day_a_point_and_no_more(bed: LocalBed) -> None:
    bed.user().add([job("old"), job("new", priority=-1)])
    bed.clock.move(86_400 * 3 + 1)
    bed.user().add([job("late", priority=3), job("later", priority=4), job("last", priority=2)])
    assert [each.spec.name for each in take(bed.pilot(), 5)] == ["later", "old", "late", "new", "last"]


# --- reservations ---


def full(pilot: str = "p1") -> Offer:
    return offer(pilot, cpus=8)


def one(pilot: str = "p1") -> Offer:
    """What a full node offers when one of its small jobs has ended."""
    return offer(pilot, cpus=1)


def a_full_node(bed: LocalBed, pilot: Server) -> list[Grant]:
    """Eight small jobs run on it, and a big one of the same owner waits behind many more."""
    pilot.register(full())
    bed.user().add([job(f"small{each}") for each in range(200)])
    bed.user().add([job("big", needs=needs(8))])
    return take(pilot, 8, full())


def minutes(bed: LocalBed, pilot: Server, running: list[Grant], number: int) -> list[Grant]:
    """Each minute one of them ends, and what came free is offered; all others send their heartbeats."""
    from pilot.ports import Beat

    for _ in range(number):
        bed.clock.move(50)
        if running:
            end(pilot, running[:1])
        free = 8 - len(running[1:])
        left = running[1:]
        if left:
            pilot.renew([Beat(each.job_id, each.attempt, "running") for each in left])
        running = left + take(pilot, 1, offer("p1", cpus=free))
    return running


def test_a_node_is_drained_for_a_big_job(bed: LocalBed) -> None:
    pilot = bed.pilot()
    running = a_full_node(bed, pilot)
    before = int(RESERVE_AFTER_SECONDS // 50) - 1
    running = minutes(bed, pilot, running, before)
    assert [each.spec.name.startswith("small") for each in running] == [True] * 8
    assert bed.user().explain("big").clause == "needs.cpus"
    running = minutes(bed, pilot, running, 5)
    assert len(running) < 8  # nothing new is begun there
    found = bed.user().explain("big")
    assert (found.clause, found.attribute) == ("reservation", "room")
    assert "pilot p1 is kept free for it since 2027-" in found.offered
    assert bed.user().explain("small199").clause == "reservation"
    running = minutes(bed, pilot, running, 3)
    assert [each.spec.name for each in running] == ["big"]
    end(pilot, running)
    assert take(pilot, 1, full())[0].spec.name.startswith("small")
    with bed.store().reading() as db:
        assert db.execute("SELECT count(*) FROM reservation").fetchone()[0] == 0


def test_other_pilots_go_on(bed: LocalBed) -> None:
    pilot, other = bed.pilot(), bed.pilot()
    running = minutes(bed, pilot, a_full_node(bed, pilot), int(RESERVE_AFTER_SECONDS // 50) + 2)
    assert len(running) < 8
    assert len(take(other, 3, offer("p2", cpus=2))) == 3
    elsewhere = take(bed.pilot(), OVERDUE_EVERY, full("p3"))
    assert "big" in [each.spec.name for each in elsewhere]  # whoever has the room may take it
    assert len(take(pilot, 1, one())) == 1  # and the pilot that was kept free is free again


def test_a_reservation_ends_with_the_jobs_it_was_for(bed: LocalBed) -> None:
    pilot = bed.pilot()
    running = minutes(bed, pilot, a_full_node(bed, pilot), int(RESERVE_AFTER_SECONDS // 50) + 2)
    assert len(running) < 8
    bed.user().cancel(["big"])
    assert take(pilot, 1, one())


def test_a_reservation_in_vain_ends_after_a_while(bed: LocalBed) -> None:
    pilot = bed.pilot()
    running = minutes(bed, pilot, a_full_node(bed, pilot), int(RESERVE_AFTER_SECONDS // 50) + 2)
    end(pilot, running)
    assert take(pilot, 1, one()) == []  # its slot has shrunk: it will never have the room
    bed.clock.move(RESERVED_SECONDS)
    assert take(pilot, 1, one())


def test_a_claim_that_is_undone_leaves_no_wrong_memory(bed: LocalBed, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilot.queue import local

    bed.user().add([job("a"), job("b")])
    pilot = bed.pilot()
    whole = local.claim_all

    def broken(*given: object) -> object:
        whole(*given)  # type: ignore[arg-type]
        raise ZeroDivisionError

    monkeypatch.setattr(local, "claim_all", broken)
    with pytest.raises(ZeroDivisionError):
        take(pilot)
    monkeypatch.undo()
    assert [each.spec.name for each in take(pilot, 3)] == ["a", "b"]


# --- what is remembered is exact ---


def test_many_servers_on_one_file_choose_as_one_that_remembers_nothing(bed: LocalBed) -> None:
    """Whatever users and pilots do, a server that has been there all along grants what a fresh one would."""
    import random

    chance = random.Random(3)
    old = [bed.pilot() for _ in range(3)]
    users = [bed.user(name) for name in ("ada", "bob")]
    running: list[Grant] = []
    for step in range(150):
        bed.clock.move(chance.choice([0.0, 1.0, 15.0]))  # leases run out; it is not yet time for reservations
        user = chance.choice(users)
        did = chance.randrange(6)
        if did < 2:
            user.add([job(f"j{step}-{each}", needs=needs(chance.randrange(1, 6)), priority=chance.randrange(3))
                      for each in range(chance.randrange(1, 5))])  # fmt: skip
        elif did == 2 and (waiting := user.find([JobState.WAITING], owner="ada" if user is users[0] else "bob")):
            chance.choice([user.hold, user.cancel])([chance.choice(waiting).job_id])
        elif did == 3 and (held := user.find([JobState.HELD], owner="ada" if user is users[0] else "bob")):
            user.release([held[0].job_id])
        elif did == 4 and running:
            end(chance.choice(old), [running.pop(chance.randrange(len(running)))])
        else:
            server = chance.choice(old)
            assert isinstance(server, LocalServer)
            wanted = offer(f"p{old.index(server)}", cpus=chance.randrange(1, 6))
            running += _same(bed, server, wanted)
    assert len(running) > 5


def _same(bed: LocalBed, server: LocalServer, wanted: Offer) -> list[Grant]:
    """What a fresh server would give is given back, and then asked of the one that remembers."""
    fresh, claim_id = bed.pilot(), next(IDS)
    (first,) = fresh.claim(ask(claim_id, by=wanted))
    fresh.give_back([Unclaim(claim_id)])
    second = take(server, 1, wanted)
    assert [each.job_id for each in second] == ([first.job_id] if first else [])
    return second
