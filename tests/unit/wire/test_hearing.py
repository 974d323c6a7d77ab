"""What PanDA answers: commands, questions, refusals inside success."""

import pytest

from pilot.wire.envelope import Reply, WireError
from pilot.wire.hearing import Heard, all_heard, heard
from pilot.wire.status import Refused


def reply(command: object) -> Reply:
    return Reply(True, "", {"StatusCode": 0, "command": command})


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("NULL", Heard()),
        (None, Heard()),
        ("", Heard()),
        ("tobekilled", Heard("cancel", word="tobekilled")),
        ("softkill", Heard("stop")),
        ("debug,tobekilled", Heard("cancel", word="tobekilled")),
        ("debug", Heard()),
        ("debugoff", Heard()),
        ("nocleanup", Heard()),
        ("alreadydone", Heard(word="alreadydone")),
        ("badattemptnr", Heard(word="badattemptnr")),
        ("debug,tail stdout", Heard(question="tail stdout")),
        ("tail -n 20 payload.stdout", Heard(question="tail stdout 20")),
        ("tail -50 work/a.log", Heard(question="tail work/a.log 50")),
        ("tail pilotlog.txt", Heard(question="tail pilot")),
        ("tail", Heard(question="tail")),
        ("tail it's", Heard(question="tail 'it'\"'\"'s'")),
        ("ls", Heard(question="ls")),
        ("ls -lF work", Heard(question="ls work")),
        ("ps axo pid,comm", Heard(question="ps")),
        ("softkill,ps", Heard("stop", "ps")),
        ("gdb -p 1", Heard()),
        ("du -sh .", Heard()),
        ("rm -rf /", Heard()),
        ("ls -d . && touch X", Heard(question="ls X")),  # a name in a question, never a command: there is no shell
    ],
)
def test_commands(command: object, said: Heard) -> None:
    assert heard(reply(command)) == said


def test_a_reply_without_a_command() -> None:
    assert heard(Reply(True, "", {"StatusCode": 0})) == Heard()


@pytest.mark.parametrize(
    ("answer", "passing"),
    [
        (Reply(True, "Database error", {"StatusCode": 30}), True),
        (Reply(True, "Timed out", {"StatusCode": 10}), True),
        (Reply(True, "Failed to add meta_data", {"StatusCode": 30, "ErrorDiag": "x"}), True),
        (Reply(False, "Invalid job status: bogus", {"StatusCode": 50}), False),
        (Reply(False, "Type error: 'job_id' must be of type int, got str.", None), False),
        (Reply(False, "production or pilot role required", None), False),
        (Reply(False, "something else", None), True),
        (Reply(True, "", {"StatusCode": 70}), False),
    ],
)
def test_refusals(answer: Reply, passing: bool) -> None:
    with pytest.raises(Refused) as caught:
        heard(answer)
    assert caught.value.passing is passing


@pytest.mark.parametrize("data", [[], "x", {"StatusCode": "zero"}, {"StatusCode": 0, "command": 7.5}])
def test_nonsense(data: object) -> None:
    with pytest.raises(WireError):
        heard(Reply(True, "", data))


def test_bulk() -> None:
    data: object = [
        {"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}},
        {"success": True, "message": "", "data": {"StatusCode": 0, "command": "tobekilled"}},
    ]
    assert [heard(each).command for each in all_heard(Reply(True, "", data), 2)] == ["", "cancel"]
    for wrong in (Reply(True, "", data), Reply(True, "", [{}, {}, {}]), Reply(False, "failed with x", [])):
        with pytest.raises(WireError):
            all_heard(wrong, 3)
