"""A process of its own on a queue file: either claims until nothing is left, or walks through every call once.

The walk is what a pilot does after a crash: begun again from its start, with the same claim ids, it must end in the
same state. It prints each answer once it has it, so that a test knows what had been acknowledged at a kill.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.assemble.queue import change_queue, make_queue
from pilot.model.job import Grant, Verdict
from pilot.model.queue import QueueSettings
from pilot.model.report import Report
from pilot.ports import Beat, Final, Unclaim
from pilot.queue.local import LocalServer
from pilot.queue.settings import write_settings
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from tests.contracts.queue_version_1 import check_version_1, write_version_1
from tests.contracts.server_beds import ask, job, offer

SETTINGS = QueueSettings("default", "owner", destination="file:///out")


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def claim_all(path: Path, prefix: str, batch: int) -> None:
    """Claims in batches until the queue gives nothing more."""
    server = LocalServer(open_store(path), ClassAdMatcher())
    mine, number = offer(prefix), 0
    while True:
        requests = ask(*(f"{prefix}-{number + each}" for each in range(batch)), by=mine)
        number += batch
        grants = server.claim(requests)
        for each in grants:
            if each is not None:
                tell(each.job_id, each.attempt)
        if not any(grants):
            return server.close()


def walk(path: Path) -> None:
    """Every effect of the queue at least once, each step safe to repeat."""
    with contextlib.suppress(Final):
        make_queue(f"sqlite:{path}", SETTINGS)
    store, other = open_store(path), open_store(path)
    write_settings(store, SETTINGS)
    _beside(path.with_suffix(".old"), path.with_suffix(".sweep"))
    change_queue(f"sqlite:{path}", "default", "owner", {"poll_seconds": 0.25})
    user = LocalQueue(other, ClassAdMatcher(), "owner")
    if not user.find():
        user.add([job(name, job_id=name) for name in "abcd"] + [job("e", job_id="e", after=("a",))])
    tell("added")
    _users_part(user)
    _pilots_part(LocalServer(store, ClassAdMatcher()), user)
    store.close()
    other.close()


def _beside(old: Path, swept: Path) -> None:
    """What is done to files of their own: one of version 1 is brought up to date, and a sweep comes in."""
    if not old.exists():
        write_version_1(old)
    check_version_1(old)
    with contextlib.suppress(Final):
        make_queue(f"sqlite:{swept}", SETTINGS)
    store = open_store(swept)
    user = LocalQueue(store, ClassAdMatcher(), "owner")
    if not user.find():
        user.add_sweep(job("toy", environment=(("SEED", "{seed}"),)), [{"seed": str(each)} for each in range(5)])
    assert [each.name for each in user.find()] == [f"toy-{each}" for each in range(1, 6)]
    assert store.problems() == ()
    store.close()


def _users_part(user: LocalQueue) -> None:
    user.hold(["d"])
    user.release(["d"])
    user.checkpoint(["a"])
    user.cancel(["d"])


def _pilots_part(server: LocalServer, user: LocalQueue) -> None:
    server.register(offer())
    grants = [each for each in server.claim(ask("k1", "k2", "k3")) if each is not None]
    for each in grants:
        tell("granted", each.job_id, each.attempt)
    server.renew([Beat(each.job_id, each.attempt, "running") for each in grants])
    server.give_back([Unclaim("k3"), Unclaim("never")])
    seen = [each for each in map(user.show, "ab") if each.job.attempt]
    left = [Grant(each.job.job_id, each.job.attempt, each.spec, 0.0) for each in seen]
    ours = server.adopt("p1", [Beat(each.job_id, each.attempt, "parked") for each in left])
    _report_all(server, [grant for grant, reply in zip(left, ours, strict=True) if reply.ours])
    for claim_ids in (("k4", "k5"), ("k6",)):
        _report_all(server, server.claim(ask(*claim_ids)))


def _report_all(server: LocalServer, grants: Sequence[Grant | None]) -> None:
    for each in grants:
        if each is not None:
            (accepted,) = server.report([_success(each)])
            tell("reported", each.job_id, each.attempt, accepted)


def _success(grant: Grant) -> Report:
    return Report(grant.job_id, grant.attempt, grant.spec.name, Verdict.SUCCEEDED, "", "")


if __name__ == "__main__":
    if sys.argv[1] == "walk":
        walk(Path(sys.argv[2]))
    else:
        claim_all(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
