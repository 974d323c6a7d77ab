"""The envelope: what is read of a reply, what is not, and what it may cost."""

import contextlib
import json
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.wire.calls import JOB_CAP
from pilot.wire.envelope import HALVES_CAP, MOST, USUAL, Bounds, Reply, WireError, cleaned, read_json, read_reply, shown
from pilot.wire.members import MEMBER

TREE = Path(__file__).resolve().parents[3]

CAPTURED = [
    (b'{"success": true, "message": "", "data": null}', Reply(True)),
    (b'{"success": false, "message": "No jobs in PanDA", "data": null}', Reply(False, "No jobs in PanDA")),
    (
        b'{"success": true, "message": "", "data": {"StatusCode": 0, "command": "NULL"}}',
        Reply(True, "", {"StatusCode": 0, "command": "NULL"}),
    ),
    (b'{"success": true, "message": null}', Reply(True)),
    (b'{"success": null, "message": "", "data": null}', Reply(True)),  # an event range was updated
    (b'{"success": null, "message": "failed", "data": null}', Reply(False, "failed")),
]


@pytest.mark.parametrize(("octets", "reply"), CAPTURED)
def test_captured_replies(octets: bytes, reply: Reply) -> None:
    assert read_reply(octets) == reply


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "is no JSON"),
        (b"{'success': True}", "is no JSON"),  # what PanDA answers to those who do not say that they want JSON
        (b"<html>", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[]", "is no envelope"),
        (b'{"message": ""}', "is no envelope"),
        (b'{"success": 1}', "is no envelope"),
        (b'{"success": true, "message": 3}', "message: expected text, found 3"),
        (b'{"success": true, "data": NaN}', "holds NaN"),
        (b'{"success": true, "data": -Infinity}', "holds -Infinity"),
        (b'{"success": true, "data": 1e999}', "is too large"),
        (b'{"success": true, "data": 123456789012345678901234567890}', "is too long"),
        (b'{"success": true, "success": false}', "says 'success' twice"),
        (b'{"success": true, "data": ' + b"[" * 40 + b"]" * 40 + b"}", "nested more than 32"),
        (b"[" * 30_000, "nested too deep"),
        (b"[" + b"[]," * 50_000 + b"[]]", "more than 40000 values"),
        (b'"' + b" " * (4 << 20) + b'"', "more than 4194304 bytes"),
    ],
)
def test_what_is_refused(octets: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        read_reply(octets)


def test_many_signs_inside_a_text_are_no_values() -> None:
    text = ",:[{" * 50_000
    assert read_reply(json.dumps({"success": True, "data": text}).encode()).data == text


def test_half_a_character_is_replaced() -> None:
    found = read_json(rb'{"a\ud800": ["\udfff x", "\ud83d\ude00"], "b": {"c": "\\ud800"}}')
    assert found == {"a\ufffd": ["\ufffd x", "\U0001f600"], "b": {"c": r"\ud800"}}
    assert cleaned("a\ud800b") == "a\ufffdb"


def test_own_bounds() -> None:
    with pytest.raises(WireError, match="more than 10 bytes"):
        read_json(b"[1, 2, 3, 4]", Bounds(octets=10))
    assert read_json(b"[1,[2]]", Bounds(values=4)) == [1, [2]]
    with pytest.raises(WireError, match="more than 1 deep"):
        read_json(b"[1,[2]]", Bounds(depth=1))


def test_what_is_shown_is_one_short_line() -> None:
    assert shown("a\nb\x1b" * 100).isprintable()
    assert len(shown("x" * 10_000_000)) <= 60
    assert shown({"a": 1}) == "dict"


# --- what it may cost: for all bounds that are in use ---

TESTED = {"usual": USUAL, "most": MOST}
SMALLER = (MEMBER, JOB_CAP)  # what stays within others costs no more


def filled(unit: bytes, signs: int, bounds: Bounds) -> bytes:
    """As many of those as the bounds let through."""
    count = min((bounds.values - 2) // signs, (bounds.octets - 10) // (len(unit) + 1))
    return b"[" + b",".join([unit] * count) + b"]"


def long_text(unit: bytes, bounds: Bounds, end: bytes = b"") -> bytes:
    return b'"' + unit * ((bounds.octets - 20) // len(unit)) + end + b'"'


HOSTILE: dict[str, Callable[[Bounds], bytes]] = {
    "objects": lambda bounds: filled(b"{}", 2, bounds),
    "many-objects": lambda bounds: b"[" + b"{}," * (bounds.octets // 3 - 2) + b"1]",
    "nested-objects": lambda bounds: filled(b'{"a":[]}', 4, bounds),
    "many-nested-objects": lambda bounds: b"[" + b'{"a":[]},' * (bounds.octets // 9 - 2) + b"1]",
    "lists": lambda bounds: filled(b"[]", 2, bounds),
    "numbers": lambda bounds: filled(b"123456789.5", 1, bounds),
    "integers": lambda bounds: filled(b"1234567890123", 1, bounds),
    "names": lambda bounds: b"{" + b",".join(b'"%d":1' % each for each in range(bounds.values // 2 - 2)) + b"}",
    "doubled": lambda bounds: b"{" + b",".join(b'"%d":1' % each for each in range(19_000)) + b',"5":1}',
    "wide-texts": lambda bounds: filled('"\U0001f600"'.encode(), 1, bounds),
    "halves": lambda bounds: filled(b'"\\ud800"', 1, Bounds(bounds.octets, min(bounds.values, HALVES_CAP))),
    "more-halves": lambda bounds: filled(b'"\\ud800"', 1, bounds),
    "half-named": lambda bounds: filled(b'{"\\ud800":[]}', 4, Bounds(bounds.octets, min(bounds.values, HALVES_CAP))),
    "escapes": lambda bounds: long_text(b"\\u0041", bounds),
    "half-escapes": lambda bounds: long_text(b"\\ud800", bounds),
    "wide": lambda bounds: long_text("\U0001f600".encode(), bounds),
    "one-wide": lambda bounds: long_text(b"a", bounds, "\U0001f600".encode()),
    "one-wide-one-half": lambda bounds: long_text(b"a", bounds, b"\\ud800" + "\U0001f600".encode()),
    "unclosed": lambda bounds: b'"' + b'\\"' * (bounds.octets // 2 - 1),
    "many-unclosed": lambda bounds: b'"\\"' * (bounds.octets // 3),
    "texts": lambda bounds: b"[" + b'"",' * (bounds.octets // 3 - 2) + b"1]",
    "quotes": lambda bounds: b"[" + b'"",' * (2 * bounds.values) + b"1]",
    "long-number": lambda bounds: b"[" + b"1" * (bounds.octets - 2) + b"]",
    "long-fraction": lambda bounds: b"[" + b"1" * (bounds.octets - 10) + b".5]",
    "signs": lambda bounds: b'{"success":true,"data":' + long_text(b",:[{", Bounds(bounds.octets - 40)) + b"}",
    "brackets": lambda bounds: b"[" * bounds.octets,
}


def within_limits(act: Callable[[], object]) -> None:
    """At most 100 ms of this thread's own time, and 64 MB; nothing but WireError."""
    cheapest = 1.0
    for _ in range(6):  # of several, for the machine is shared
        before = time.thread_time()
        with contextlib.suppress(WireError):
            act()
        cheapest = min(cheapest, time.thread_time() - before)
        if cheapest < 0.1:
            break
    assert cheapest < 0.1
    tracemalloc.start()
    try:
        with contextlib.suppress(WireError):
            act()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64_000_000


@pytest.mark.parametrize("bounds", TESTED)
@pytest.mark.parametrize("name", HOSTILE)
def test_the_worst_costs_little(name: str, bounds: str) -> None:
    octets = HOSTILE[name](TESTED[bounds])
    within_limits(lambda: read_json(octets, TESTED[bounds]))


PIECES = st.sampled_from(
    [b"{}", b"[]", b'{"a":[]}', b'"\\ud800"', '"\U0001f600"'.encode(), b'"\\n"', b"1.5", b'"",""', b'{"\\ud800":1}']
)


@given(st.lists(st.tuples(PIECES, st.integers(1, 400_000)), min_size=1, max_size=3), st.sampled_from(sorted(TESTED)))
@settings(deadline=None, max_examples=6)
def test_no_mixture_costs_much(parts: list[tuple[bytes, int]], bounds: str) -> None:
    octets = b"[" + b",".join(each for unit, count in parts for each in [unit] * count) + b"]"
    within_limits(lambda: read_json(octets, TESTED[bounds]))


def test_every_bound_in_use_is_among_the_tested() -> None:
    """Whoever makes another one is to test what it may cost."""
    made = {
        f"{path.relative_to(TREE)}:{line.strip()}"
        for path in (TREE / "pilot").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\bBounds\(", line)
    }
    assert all(each.octets <= MOST.octets and each.values <= MOST.values for each in SMALLER)
    assert len(made) == len(TESTED) + len(SMALLER) + 1, (
        made
    )  # and what the service reads, by the size of its calls' bodies


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=6), each, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=300) | ANY_JSON.map(lambda each: json.dumps(each).encode()))
@settings(deadline=None, max_examples=300)
def test_nothing_but_wire_errors(octets: bytes) -> None:
    try:
        found = read_reply(octets)
    except WireError as problem:
        assert str(problem).isprintable()  # noqa: PT017
    else:
        json.dumps(found.data, allow_nan=False).encode()
        assert cleaned(found.message) == found.message


@given(ANY_JSON)
@settings(deadline=None)
def test_what_is_json_is_read_as_it_is(value: object) -> None:
    text = json.dumps({"success": True, "message": "", "data": value})
    try:
        assert read_reply(text.encode()).data == value
    except WireError as problem:
        assert any(each in str(problem) for each in ("NaN", "Infinity", "too long", "too large"))  # noqa: PT017
