"""A log of any output, cut anywhere, is head, dropped line and tail; and a follower sees each byte once."""

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.supervisor.follow import Follower, whole
from pilot.supervisor.sink import RING_SUFFIX, Sink, marker


def expected(data: bytes, head: int, tail: int) -> bytes:
    dropped = len(data) - head - tail
    if dropped <= 0:
        return data
    return data[:head] + marker(dropped) + data[len(data) - tail :]


def numbered(size: int) -> bytes:
    return b"".join(b"%06d\n" % n for n in range(size // 7 + 1))[:size]


@settings(max_examples=150)
@given(st.integers(0, 60), st.integers(0, 40), st.lists(st.integers(0, 50), max_size=12))
def test_head_marker_tail(tmp_path_factory: pytest.TempPathFactory, head: int, tail: int, cuts: list[int]) -> None:
    path = tmp_path_factory.mktemp("log") / "out"
    data = numbered(sum(cuts))
    sink = Sink(str(path), head, tail)
    at = 0
    for cut in cuts:
        sink.take(data[at : at + cut])
        at += cut
        if tail:  # without a tail there is nothing live to read behind the head
            assert whole(str(path)) == expected(data[:at], head, tail)
    assert (sink.total, sink.dropped) == (len(data), max(0, len(data) - head - tail))
    sink.close()
    assert path.read_bytes() == expected(data, head, tail)
    assert [file.name for file in path.parent.iterdir()] == ["out"]


@settings(max_examples=150)
@given(st.integers(0, 30), st.integers(60, 90), st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=12))
def test_a_follower_that_keeps_up_misses_nothing(
    tmp_path_factory: pytest.TempPathFactory, head: int, tail: int, steps: list[tuple[int, bool]]
) -> None:
    path = str(tmp_path_factory.mktemp("log") / "out")
    data = numbered(sum(cut for cut, _ in steps))
    follower, sink = Follower(path), Sink(path, head, tail)
    seen, at, unseen = b"", 0, 0
    for cut, looks in steps:
        sink.take(data[at : at + cut])
        at += cut
        unseen += cut
        if looks or unseen > tail - 60:
            seen += follower.more()
            unseen = 0
            assert seen == data[:at]
    sink.close()
    assert seen + follower.more() == data
    assert follower.more() == b""


def test_a_follower_that_is_late_says_what_it_missed(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    follower = Follower(path)
    assert follower.more() == b""
    data = numbered(1000)
    sink = Sink(path, 10, 100)
    sink.take(data[:10])
    assert follower.more() == data[:10]
    sink.take(data[10:500])
    assert follower.more() == marker(390) + data[400:500]
    sink.take(data[500:])
    sink.close()
    assert follower.more() == marker(400) + data[900:]


def test_a_disk_that_refuses_loses_output_and_says_how_much(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = Sink(str(tmp_path / "out"), 4000, 500)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        sink.take(b"a" * 1500)
        sink.take(b"b" * 2000)
        assert (sink.total, sink.dropped) == (3500, 2000)
        sink.close()
        assert (tmp_path / ("out" + RING_SUFFIX)).exists()  # there is no room behind the head: the tail stays here
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "out").read_bytes() == b"a" * 1000
    assert whole(str(tmp_path / "out")).startswith(b"a" * 1000)
    assert whole(str(tmp_path / "out")).endswith(b"b" * 500)


def test_a_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Sink(str(tmp_path / "out"), 1, 1)
    assert not (tmp_path / "elsewhere").exists()
