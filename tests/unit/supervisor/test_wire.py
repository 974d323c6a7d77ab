"""Messages of the supervisor: the lean JSON, the lines, and what a start must say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.supervisor.lean import dumps, loads
from pilot.supervisor.link import Lines, line
from pilot.supervisor.order import Order

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_by_both(value: object) -> None:
    assert loads(dumps(value)) == json.loads(dumps(value)) == value
    assert loads(json.dumps(value, indent=1)) == value
    assert "\n" not in dumps(value)


@given(st.text())
def test_any_text_is_read_as_json_reads_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match="JSON value"):
            loads(text)
    else:
        assert loads(text) == expected or expected != expected


@pytest.mark.parametrize("text", ["", "{", '{"a"', "nope", "1 2", '{"a":1}x', "[" * 100_000, '"\x01"'])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="JSON value"):
        loads(text)


def test_bad_json_is_a_value_error_without_the_json_package_too() -> None:
    script = (
        "import sys\nfrom pilot.supervisor.lean import loads\nassert 'json.decoder' not in sys.modules\n"
        "try: loads('{\"a\"')\nexcept ValueError: print('fine')"
    )
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", script], cwd=root, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "fine\n"


@pytest.mark.parametrize("name", ["re", "enum", "json", "typing", "dataclasses", "subprocess", "socket", "threading"])
def test_the_supervisor_stays_small(name: str) -> None:
    script = f"import pilot.supervisor.main, sys; sys.exit({name!r} in sys.modules)"
    root = str(Path(__file__).resolve().parents[3])
    assert subprocess.run([sys.executable, "-S", "-E", "-c", script], cwd=root, timeout=20, check=False).returncode == 0


@given(st.lists(st.dictionaries(st.text(), VALUES), max_size=5), st.integers(1, 7))
def test_messages_survive_any_cutting(messages: list[dict[str, object]], size: int) -> None:
    stream = b"".join(line(message) for message in messages)
    lines = Lines()
    heard = [m for at in range(0, len(stream), size) for m in lines.feed(stream[at : at + size])]
    assert heard == messages


@pytest.mark.parametrize("data", [b"[]\n", b"junk\n", b"\xff\n", b"x" * 101, b"x" * 101 + b"\n"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- several texts
        Lines(limit=100).feed(data)


GOOD = {
    "id": "a",
    "argv": ["true"],
    "env": {},
    "cwd": "/",
    "directory": "/",
    "stdout": "/o",
    "stderr": "/e",
    "head_bytes": 1,
    "tail_bytes": 0,
    "grace": 1.5,
}


def test_a_good_order() -> None:
    order = Order(GOOD)
    assert (order.payload, order.argv, order.grace, order.group) == ("a", ["true"], 1.5, True)
    assert Order(GOOD | {"group": False}).group is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", ""),
        ("id", 3),
        ("argv", []),
        ("argv", "true"),
        ("argv", [""]),
        ("argv", ["a", 1]),
        ("argv", ["a\0b"]),
        ("env", None),
        ("env", {"A": 1}),
        ("env", {"": "x"}),
        ("env", {"A=": "x"}),
        ("env", {"A": "\0"}),
        ("cwd", "here"),
        ("directory", "a\0"),
        ("stdout", ""),
        ("stderr", None),
        ("head_bytes", -1),
        ("tail_bytes", True),
        ("grace", "1"),
        ("grace", float("inf")),
        ("grace", None),
    ],
)
def test_a_bad_order_names_the_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        Order(GOOD | {key: value})


def test_the_shipped_command_starts_nothing_but_the_standard_library() -> None:
    folder = Path(__file__).resolve().parents[3] / "pilot" / "supervisor"
    for module in folder.glob("*.py"):
        for text in module.read_text().splitlines():
            if "import" in text.split()[:1] + text.split()[2:3] and "pilot" in text:
                assert "pilot.supervisor" in text, f"{module.name}: {text}"
    assert os.path.exists(folder / "main.py")
