"""The envelope: what is read of a reply, what is not, and what it may cost."""

import contextlib
import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.wire.envelope import Bounds, Reply, WireError, cleaned, read_json, read_reply, shown

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


HOSTILE = {
    "objects": b"[" + b"{}," * 19_000 + b"{}]",
    "escapes": b'"' + b"\\u0041" * 690_000 + b'"',
    "wide": b'"' + "\U0001f600".encode() * 1_000_000 + b'"',
    "unclosed": b'"' + b'\\"' * 2_000_000,
    "many-unclosed": b'"\\"' * 1_300_000,
    "doubled": b"{" + b",".join(b'"%d":1' % each for each in range(19_000)) + b',"5":1}',
    "long-number": b"[" + b"1" * 4_000_000 + b"]",
    "long-fraction": b"[" + b"1" * 4_000_000 + b".5]",
    "halves": b"[" + b'"\\ud800",' * 39_000 + b"1]",
    "signs": b'{"success":true,"data":"' + b",:[{" * 1_000_000 + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_worst_costs_little_time(name: str) -> None:
    cheapest = 1.0
    for _ in range(5):  # of several, for the machine is shared
        before = time.thread_time()
        with contextlib.suppress(WireError):
            read_reply(HOSTILE[name])
        cheapest = min(cheapest, time.thread_time() - before)
        if cheapest < 0.1:
            break
    assert cheapest < 0.1


@pytest.mark.parametrize("name", HOSTILE)
def test_the_worst_costs_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(WireError):
            read_reply(HOSTILE[name])
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


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
