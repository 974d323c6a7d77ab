"""No heartbeat follows the last word, however slow the line of heartbeats is: on real sockets."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pilot.adapters.credentials_token import NoCredential
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_panda import PandaServer
from pilot.adapters.server_panda_order import REMEMBERED, WordOrder
from pilot.model.job import Grant
from pilot.ports import Beat, Passing, Unclaim
from pilot.wire.envelope import Reply
from tests.adapters.test_server_panda import beat, claims, report
from tests.fakes.panda import Panda
from tests.unit.wire.recorded import SITE, definition

SOON = 10.0  # seconds in which what is not held up has long happened


class Socket:
    """The fake PanDA on a port of its own; a heartbeat is held up until `go` is set, before it is carried out."""

    def __init__(self) -> None:
        self.panda = Panda()
        self.go = threading.Event()
        self.go.set()
        self.held = threading.Event()
        self.broken = 0  # so many last words are taken, and their answers lost
        lock, bed = threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                updates = asked.get("job_list", [asked])
                if any(each.get("job_status") == "running" for each in updates):
                    bed.held.set()
                    assert bed.go.wait(SOON)
                with lock:
                    reply = bed.panda.call("POST", self.path, asked)
                if bed.broken and asked.get("job_status") == "finished":
                    bed.broken -= 1
                    self.close_connection = True
                    return
                body = json.dumps({"success": reply.success, "message": reply.message, "data": reply.data}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nowhere."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        self.order = WordOrder()
        self.lines: list[HttpLine] = []

    def pilot(self) -> PandaServer:
        """The queue over one more line of the same pilot."""
        line = HttpLine(f"http://127.0.0.1:{self.server.server_port}", NoCredential(), Gate())
        self.lines.append(line)
        return PandaServer(line, SITE, order=self.order)

    def granted(self, server: PandaServer, number: int = 1) -> Grant:
        self.panda.add(definition("echo", PandaID=number))
        (grant,) = server.claim(claims("c"))
        assert grant is not None
        return grant

    def words(self, number: int = 1) -> list[object]:
        return [each["job_status"] for each in self.panda.rows[number].updates]

    def close(self) -> None:
        self.go.set()
        for each in self.lines:
            each.close()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(SOON)


@pytest.fixture
def bed() -> Iterator[Socket]:
    made = Socket()
    yield made
    made.close()


def aside(action: object) -> threading.Thread:
    thread = threading.Thread(target=action)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_a_last_word_waits_for_a_slow_heartbeat(bed: Socket) -> None:
    server, pulse = bed.pilot(), bed.pilot()
    grant = bed.granted(server)
    bed.go.clear()
    beating = aside(lambda: pulse.renew([beat(grant)]))
    assert bed.held.wait(SOON)
    reporting = aside(lambda: server.report([report(grant)]))
    reporting.join(0.5)
    assert reporting.is_alive()
    assert "finished" not in bed.words()
    bed.go.set()
    beating.join(SOON)
    reporting.join(SOON)
    assert bed.words()[-2:] == ["running", "finished"]


def test_a_slow_heartbeat_of_another_attempt_holds_nothing_up(bed: Socket) -> None:
    server, pulse = bed.pilot(), bed.pilot()
    first, second = bed.granted(server), bed.granted(server, 2)
    bed.go.clear()
    beating = aside(lambda: pulse.renew([beat(second)]))
    assert bed.held.wait(SOON)
    assert list(server.report([report(first)])) == [True]
    assert beating.is_alive()
    bed.go.set()
    beating.join(SOON)


def test_a_heartbeat_that_was_drawn_before_the_last_word_says_nothing_after_it(bed: Socket) -> None:
    server, pulse = bed.pilot(), bed.pilot()
    grant, other = bed.granted(server), bed.granted(server, 2)
    drawn = [beat(grant), beat(other)]
    server.report([report(grant)])
    assert [(each.ours, each.command) for each in pulse.renew(drawn)] == [(True, ""), (True, "")]
    assert bed.words()[-1] == "finished"
    assert bed.words(2)[-1] == "running"


def test_nothing_is_said_while_nobody_knows_whether_the_last_word_arrived(bed: Socket) -> None:
    server, pulse = bed.pilot(), bed.pilot()
    grant = bed.granted(server)
    bed.broken = 9
    with pytest.raises(Passing):
        server.report([report(grant)])
    bed.broken = 0
    assert [each.ours for each in pulse.renew([beat(grant)])] == [True]
    assert bed.words()[-1] == "finished"
    assert list(server.report([report(grant)])) == [True]


def test_a_pilot_that_takes_over_does_not_beat_for_what_its_predecessor_closed(bed: Socket) -> None:
    grant = bed.granted(bed.pilot())
    bed.pilot().report([report(grant)])
    bed.order = WordOrder()
    closed = Beat(grant.job_id, grant.attempt, "closed", receipt=grant.receipt)
    assert [each.ours for each in bed.pilot().renew([closed])] == [True]
    assert bed.words()[-1] == "finished"


def test_what_is_given_back_is_over_until_it_is_given_out_again(bed: Socket) -> None:
    server, pulse = bed.pilot(), bed.pilot()
    grant = bed.granted(server)
    server.give_back([Unclaim("c", grant.job_id, grant.attempt, grant.receipt)])
    pulse.renew([beat(grant)])
    assert bed.words()[-1] == "failed"
    again = bed.granted(server)
    pulse.renew([beat(again)])
    assert bed.words()[-1] == "running"


def test_what_a_stranger_gave_is_not_ours(bed: Socket) -> None:
    (reply,) = bed.pilot().renew([Beat("not-a-number", 1, "running")])
    assert not reply.ours


def test_a_heartbeat_that_is_never_answered_holds_up_no_last_word_for_ever() -> None:
    order = WordOrder(0.1)
    with order.alive([("1", 0)]):
        order.end([("1", 0)])
    with order.alive([("1", 0), ("2", 0)]) as told:
        assert told == {("2", 0)}


def test_what_is_remembered_is_bounded() -> None:
    order = WordOrder()
    for number in range(REMEMBERED + 5):
        order.end([(str(number), 0)])
    with order.alive([("0", 0), ("5", 0)]) as told:
        assert told == {("0", 0)}


def test_the_lines_of_one_pilot_share_one_order() -> None:
    from pilot.assemble.panda import PandaQueue
    from pilot.wire.queuedata import QueueData

    queue, panda = PandaQueue(replace(SITE), QueueData("q", "r", "s")), Panda()
    server, pulse = queue.server(panda), queue.server(panda)  # type: ignore[arg-type]
    panda.add(definition("echo"))
    (grant,) = server.claim(claims("c"))
    assert grant is not None
    server.report([report(grant)])
    panda.instead["update_job"] = [Reply(False, "nothing was to be said")]
    assert [each.ours for each in pulse.renew([beat(grant)])] == [True]
