"""What a site says of its queue: every key that is read is used, and stands in the table of the reference."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from pilot.wire.envelope import WireError
from pilot.wire.queuedata import QueueData, label_of, queue_data
from pilot.wire.queuekeys import IGNORED, KEYS
from pilot.wire.site import Limits

MIB = 1 << 20
PILOT = Path(__file__).parents[3] / "pilot"
READERS = ("text", "number", "_number", "flag", "get")

CRIC: dict[str, object] = {
    "nickname": "TEST_CE", "panda_resource": "TEST_QUEUE", "atlas_site": "TEST_SITE", "state": "ACTIVE",
    "status": "online", "corecount": 8, "maxrss": 16000, "maxwdir": 20000, "maxtime": 172800, "timefloor": 60,
    "maxinputsize": 14336, "catchall": "IMAGE_BASE=/cvmfs/x,no_target_architecture,no_token_renewal",
    "astorages": {"pw": ["TEST_RSE"], "write_lan": ["BEST_RSE"]},
    "params": {"pilot_rss_grace": 50, "pilot_maxwdir_grace": 20, "pilot_walltime_grace": "10", "other": []},
    "environ": """source /x; A=1;B="two words" C='3' LD_PRELOAD=/x PATH=/y D=$HOME MY_TOKEN=t""",
}  # fmt: skip


def test_queue_data() -> None:
    limits = Limits(16000 * MIB, 20000 * MIB, 14336 * MIB, 172800, 50, 20, 10)
    expected = QueueData(
        "TEST_CE", "TEST_QUEUE", "TEST_SITE", "online", 8, limits, 3600, "/cvmfs/x",
        (("A", "1"), ("B", "two words"), ("C", "3")), ("BEST_RSE", "TEST_RSE"), False, False,
    )  # fmt: skip
    assert queue_data(CRIC, "TEST_CE") == expected
    assert queue_data({"OTHER": {}, "TEST_CE": CRIC}, "TEST_CE") == expected


OTHERWISE: dict[str, object] = {
    "status": "test", "catchall": "", "environ": "", "astorages": {}, "params": {}, "corecount": 1, "state": "GONE",
}  # fmt: skip


@pytest.mark.parametrize("key", [*KEYS, *IGNORED])
def test_the_table_of_keys_says_what_is_done(key: str) -> None:
    """A key of the table changes what becomes of the queue; one that is said to do nothing does nothing."""
    base = {name: each for name, each in CRIC.items() if key != "gstat" or name != "atlas_site"}
    try:
        changed = queue_data({**base, key: OTHERWISE.get(key, "7")}, "TEST_CE") != queue_data(base, "TEST_CE")
    except WireError:
        changed = True
    assert changed is (key in KEYS)


def test_every_key_that_is_read_stands_in_the_table() -> None:
    read = {
        key.value
        for call in ast.walk(ast.parse((PILOT / "wire/queuedata.py").read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in READERS
        for key in call.args[:2]
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    assert {each for each in read if not each.startswith("pilot_")} == set(KEYS)
    assert all(f"`{each}`" in KEYS["params"] for each in read if each.startswith("pilot_"))


@pytest.mark.parametrize("name", [each.name for kind in (QueueData, Limits) for each in fields(kind)])
def test_what_is_parsed_is_used(name: str) -> None:
    """Every value of a queue's data has a reader beyond the reading itself."""
    places = [each for each in PILOT.rglob("*.py") if each.name != "queuedata.py"]
    seen = (
        ast.parse(each.read_text())
        for each in places
        if each.relative_to(PILOT).parts[0] in ("wire", "assemble", "adapters")
    )
    owners = ("data", "_queue", "queue", "limits")
    assert any(
        isinstance(node, ast.Attribute) and node.attr == name and _owner(node.value) in owners
        for tree in seen
        for node in ast.walk(tree)
    )


def _owner(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"state": "NOTACTIVE"}, "not ACTIVE"), ({"environ": []}, "environ: expected text")],
)
def test_a_queue_that_is_no_use(changes: dict[str, object], said: str) -> None:
    with pytest.raises(WireError, match=said):
        queue_data({**CRIC, **changes}, "TEST_CE")


def test_an_unknown_queue() -> None:
    with pytest.raises(WireError, match="the queue X is not in the queue data"):
        queue_data({"TEST_CE": CRIC}, "X")


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("maxtime", 1.5, 1),
        ("maxtime", -1, 0),
        ("maxtime", "yes", 0),
        ("maxtime", float("nan"), 0),
        ("maxtime", 1e300, 0),
        ("maxtime", True, 0),
        ("maxtime", [], 0),
    ],
)
def test_a_slip_in_a_form_stops_no_queue(key: str, value: object, found: int) -> None:
    data = queue_data({**CRIC, key: value}, "TEST_CE")
    assert data.limits.walltime_seconds == found
    assert [each.partition(":")[0] for each in data.notes] == ([] if found else [key])


def test_a_status_that_nobody_knows_is_online_and_told() -> None:
    data = queue_data({**CRIC, "status": "standby"}, "TEST_CE")
    assert (data.status, data.notes) == ("online", ("status: 'standby' is not known here: taken as online",))


@pytest.mark.parametrize(
    ("label", "status", "asked"),
    [("user", "online", "user"), ("user", "test", "test"), ("managed", "test", "test"), ("ptest", "test", "ptest")],
)
def test_labels(label: str, status: str, asked: str) -> None:
    assert label_of(label, status) == asked
