"""How much one user, and all callers together, may ask of a served queue; what who is sent away is told."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.adapters.server_calls import Calls
from pilot.adapters.server_own import OwnServer
from pilot.model.faults import Code
from pilot.model.plain import to_plain
from pilot.ports import Final, Passing
from pilot.queue.service.call import Role
from pilot.queue.service.desk import Desk
from pilot.queue.service.limits import Busy, Limits
from pilot.queue.service.numbers import NoNumbers
from pilot.queue.service.uploads import Uploads
from tests.beds.served import Raw, Served, new_queue
from tests.contracts.server_beds import job, offer

GRID = "/api/v1/grid/"


@pytest.fixture
def small(folder: Path) -> Iterator[Served]:
    """A service with room for three waiting jobs a user, and for one call at a time."""
    made = Served(new_queue(folder), limits=Limits(waiting_jobs=3, upload_bytes=100, pending_calls=1))
    yield made
    made.close()


def test_a_user_may_have_so_many_jobs_waiting_and_others_as_many(small: Served) -> None:
    anna, berta = small.user("anna"), small.user("berta")
    rows = anna.add([job("a"), job("b")])
    anna.hold([rows[0].job_id])
    with pytest.raises(Final, match="anna has 2 jobs waiting, and 2 more would be over the 3 of a user") as refused:
        anna.add([job("c"), job("d")])
    assert refused.value.fault.code is Code.STORAGE_DENIED
    with pytest.raises(Final, match="over the 3"):
        anna.add_sweep(job("s-{n}"), [{"n": "1"}, {"n": "2"}])
    assert len(anna.find()) == 2, "all or none"
    assert len(berta.add([job("a"), job("b"), job("c")])) == 3
    anna.cancel([rows[1].job_id])
    assert len(anna.add([job("c"), job("d")])) == 2
    anna.close()
    berta.close()


def test_who_comes_when_too_many_wait_is_told_when_to_come_again(small: Served) -> None:
    """The database thread is held up; one call waits for it, the next is sent away, and the first is answered."""
    gate, answers = threading.Event(), []
    token = small.token(Role.SUBMITTER, "anna").read_text().strip()
    small.service.desk._thread.submit(gate.wait, 20)

    def add(name: str) -> None:
        raw = Raw(small, token)
        answers.append(raw.post(f"{GRID}add", {"jobs": [to_plain({"spec": job(name).spec})]}))
        raw.close()

    first = threading.Thread(target=add, args=("a",))
    first.start()
    while small.service.desk._pending < 1:
        first.join(0.01)
    add("b")
    gate.set()
    first.join(20)
    sent_away, answered = answers
    assert sent_away.status_code == 429
    assert int(sent_away.headers["retry-after"]) >= 1
    assert sent_away.json()["data"] == {"code": "server.unreachable", "kind": "passing"}
    assert "\n" not in sent_away.json()["message"]
    assert answered.status_code == 200
    anna = small.user("anna")
    assert [each.name for each in anna.find()] == ["a"]
    anna.close()


def test_a_client_of_ours_takes_it_for_passing(small: Served) -> None:
    gate = threading.Event()
    small.service.reader._pending = 1
    anna = small.user("anna")
    with pytest.raises(Passing):
        anna.find()
    small.service.reader._pending = 0
    gate.set()
    anna.close()


def test_what_the_service_itself_does_is_never_sent_away() -> None:
    async def all_of_them() -> tuple[object, object]:
        desk = Desk("test", NoNumbers(), most=0)
        own = await desk.do("look", lambda: "done", own=True)
        others = await asyncio.gather(desk.do("read", lambda: "done"), return_exceptions=True)
        desk.close()
        return own, others[0]

    own, other = asyncio.run(all_of_them())
    assert own == "done"
    assert isinstance(other, Busy)


def put(uploads: Uploads, user: str, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    uploads.put(user, sha256, data)
    return sha256


def test_one_users_archives_never_push_out_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(share=100)
    annas = put(uploads, "anna", b"a" * 60)
    bertas = [put(uploads, "berta", each * 50) for each in (b"1", b"2", b"3")]
    assert uploads.get("anna", annas) == b"a" * 60
    assert [uploads.get("berta", each) is not None for each in bertas] == [False, True, True]
    assert uploads.get("berta", annas) is None, "what somebody else put is nobody's business"
    with pytest.raises(Final, match="over the 100"):
        put(uploads, "anna", b"x" * 101)
    monkeypatch.setattr("pilot.queue.service.uploads.KEPT_BYTES", 200)
    with pytest.raises(Busy):
        put(uploads, "carla", b"c" * 60)
    assert uploads.get("anna", annas) is not None


def test_a_pilot_says_that_it_leaves_and_its_heartbeat_line_does_not(small: Served) -> None:
    lines = [OwnServer(Calls(small.line(Role.PILOT, "pilot"), "default"), leaves=True) for _ in range(2)]
    lines[0].register(offer("n1/1"))
    lines[1].close()
    assert not small.service.left
    lines[0].close()
    assert list(small.service.left) == ["n1/1"]
