"""The journal on disk: what was written is read again, torn, cut or with room behind its end."""

import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from pilot.adapters import journal_file
from pilot.adapters.journal_file import AHEAD_BYTES, FileJournal, read_segment, segments
from pilot.ports import Line, Passing


def line(number: int) -> Line:
    return Line(1000.0 + number, float(number), "claim-1", {"is": "Granted", "text": "ä\n" * (number % 7)})


LINES = [line(number) for number in range(20)]


def written(state: Path) -> FileJournal:
    journal = FileJournal(state)
    journal.begin(LINES[:5])
    for each in LINES[5:]:
        journal.write([each])
    return journal


def left_by_a_dead_pilot(state: Path, place: Path) -> Path:
    """The very bytes on disk, without the orderly end that would tidy them."""
    journal = written(state)
    shutil.copytree(state, place)
    journal.close()
    return place


def test_a_closed_journal_ends_with_its_last_line(tmp_path: Path) -> None:
    written(tmp_path).close()
    [segment] = segments(tmp_path)
    assert segment.read_bytes().endswith(b"\n")
    assert list(read_segment(segment)) == LINES


def test_the_next_pilot_reads_what_a_dead_one_left_with_the_room_it_held(tmp_path: Path) -> None:
    state = left_by_a_dead_pilot(tmp_path / "a", tmp_path / "b")
    [segment] = segments(state)
    assert segment.stat().st_size > AHEAD_BYTES
    journal = FileJournal(state)
    assert journal.replay() == LINES
    journal.begin(LINES[:1])
    journal.close()
    assert [list(read_segment(each)) for each in segments(state)] == [LINES, LINES[:1]]


@pytest.mark.parametrize("cut", [1, 2, 10, 50])
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    written(tmp_path).close()
    [segment] = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - cut)
    journal = FileJournal(tmp_path)
    assert journal.replay() == LINES[:-1]
    journal.close()


def test_nothing_behind_a_damaged_line_is_believed(tmp_path: Path) -> None:
    written(tmp_path).close()
    [segment] = segments(tmp_path)
    content = bytearray(segment.read_bytes())
    content[content.index(b'"m":10.0') + 5] ^= 1
    segment.write_bytes(content)
    assert list(read_segment(segment)) == LINES[:10]


def test_room_is_held_before_it_is_needed(tmp_path: Path) -> None:
    """Whatever fills the disk, half of what is held ahead is there for the next lines."""
    journal = written(tmp_path)
    [segment] = segments(tmp_path)
    for number in range(200):
        journal.write([Line(0.0, 0.0, "k", {"is": "X", "pad": "y" * 5000})])
        written_bytes = sum(
            len(each) for each in segment.read_bytes().splitlines(keepends=True) if each.endswith(b"\n")
        )
        assert segment.stat().st_blocks * 512 >= written_bytes + AHEAD_BYTES // 2 - 4096, number
    journal.close()


def test_old_segments_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "KEPT_SEGMENTS", 3)
    journal = FileJournal(tmp_path)
    for number in range(6):
        journal.begin([line(number)])
    journal.close()
    assert [list(read_segment(each)) for each in segments(tmp_path)] == [[line(3)], [line(4)], [line(5)]]


def test_a_state_directory_has_one_journal(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    with pytest.raises(Passing, match="another pilot uses this state directory"):
        FileJournal(tmp_path)
    journal.close()
    FileJournal(tmp_path).close()


def test_half_a_character_of_a_payload_is_kept_and_stops_nobody(tmp_path: Path) -> None:
    half = Line(1.0, 1.0, "claim-1", {"is": "Exited", "text": "\ud800 and \udcff"})
    journal = FileJournal(tmp_path)
    journal.begin([half])
    journal.close()
    [segment] = segments(tmp_path)
    assert list(read_segment(segment)) == [half]
    segment.read_text(encoding="utf-8")


def test_a_lock_that_a_dead_pilots_child_still_holds_is_waited_for(tmp_path: Path) -> None:
    """Between its fork and its exec a process has all that its parent had, the lock too."""
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    release = threading.Timer(0.2, os.close, (descriptor,))
    release.start()
    FileJournal(tmp_path).close()
    release.join()
