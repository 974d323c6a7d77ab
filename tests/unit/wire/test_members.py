"""Large documents of sites, member by member: what is read, and what each step may cost."""

import contextlib
import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.wire.envelope import WireError
from pilot.wire.members import DOCUMENT_BYTES, MEMBERS_CAP, members

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text("ab\n\U0001f600"), each, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text('abc\\"é'), PLAIN, max_size=6), st.sampled_from([None, 1]), st.booleans())
@settings(deadline=None)
def test_what_is_an_object_is_read_as_it_is(value: dict[str, object], indent: int | None, escaped: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    assert dict(members(f" {text} ".encode())) == value


def test_a_document_of_many_windows_is_read_as_it_is() -> None:
    site = {"arprotocols": {"pr": [{"endpoint": "davs://h", "path": "/\U0001f600" * 50}]}, "more": list(range(1000))}
    value = {f"SITE{each}": {**site, "long": "é" * (each * 3000)} for each in range(60)}
    assert dict(members(json.dumps(value, ensure_ascii=False).encode())) == value


@given(st.binary(max_size=60) | st.text('{}[]":,1a \\').map(str.encode))
@settings(deadline=None, max_examples=400)
def test_nothing_but_wire_errors(octets: bytes) -> None:
    try:
        found = dict(members(octets))
    except WireError as problem:
        assert str(problem).isprintable()  # noqa: PT017
    else:
        assert found == json.loads(octets)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected {"),
        ("[]", "expected {"),
        ("{", "expected }"),
        ('{"a"', "expected :"),
        ('{"a":', "is no JSON"),
        ('{"a":1', "expected , or }"),
        ('{"a":1,}', "is no JSON"),
        ('{"a":1}x', "behind its end"),
        ('{"a":NaN}', "holds NaN"),
        ('{"a":' + "[" * 40 + "]" * 40 + "}", "nested"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(WireError, match=said):
        dict(members(text.encode()))


def each_named(value: bytes, count: int) -> bytes:
    return b"{" + b",".join(b'"%d":%s' % (each, value) for each in range(count)) + b"}"


HOSTILE = {
    "brackets": b'{"a":' + b"[" * 10_000_000,
    "objects": b'{"a":[' + b"{}," * 1_000_000 + b"1]}",
    "nested-objects": b'{"a":[' + b'{"a":[]},' * 400_000 + b"1]}",
    "text": b'{"a":"' + b"x" * 20_000_000 + b'"}',
    "wide": ('{"a":"' + "\U0001f600" * 1_000_000 + '"}').encode(),
    "blank": b"{" + b" " * (DOCUMENT_BYTES - 2) + b"}",
    "dense": each_named(b"[" + b"{}," * 19_000 + b"1]", 20),
    "dense-nested": each_named(b"[" + b'{"a":[]},' * 9_900 + b"1]", 20),
    "halves": each_named(b"[" + b'"\\ud800",' * 16_000 + b"1]", 20),
    "many": each_named(b"1", MEMBERS_CAP + 1),
    "too-large": b" " * (DOCUMENT_BYTES + 1),
    "number": b'{"a":' + b"1" * 20_000_000 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_step_costs_much(name: str) -> None:
    cheapest = 1.0
    for _ in range(6):  # of several, for the machine is shared
        cheapest = min(cheapest, longest_step(HOSTILE[name]))
        if cheapest < 0.1:
            break
    assert cheapest < 0.1
    tracemalloc.start()
    try:
        longest_step(HOSTILE[name])
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64_000_000


def longest_step(octets: bytes) -> float:
    """Of this thread's own time, from one member to the next."""
    longest, found = 0.0, members(octets)
    with contextlib.suppress(WireError, StopIteration):
        while True:
            before = time.thread_time()
            try:
                next(found)
            finally:
                longest = max(longest, time.thread_time() - before)
    return longest
