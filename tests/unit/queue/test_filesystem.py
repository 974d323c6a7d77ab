"""Where a write-ahead log is safe, where only locks are, and where nothing is."""

from pathlib import Path

import pytest

from pilot.queue import filesystem
from pilot.queue.filesystem import advise, mount_of

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2,local_lock=none
31 22 0:41 / /soft rw,relatime - nfs server:/soft rw,nolock
32 22 0:42 / /lustre rw - lustre mds@tcp:/l rw,flock
33 22 0:43 / /lustre/local rw - lustre mds@tcp:/l rw,localflock
34 22 0:44 / /mnt/my\040disk rw - xfs /dev/vdb rw
35 22 0:45 / /sshfs rw - fuse.sshfs host: rw
36 30 0:46 / /home/fast rw - tmpfs tmpfs rw
37 22 0:47 / /twice rw - ext4 /dev/vdc rw
38 37 0:48 / /twice rw - ceph mon:/ rw
short line
39 22 0:49 / /broken
"""


@pytest.mark.parametrize(
    ("folder", "locks", "journal", "reason"),
    [
        ("/data", True, "wal", ""),
        ("/home/ada", True, "delete", "/home/ada is on nfs4"),
        ("/home/ada", False, "", "/home/ada is on nfs4, where file locks do not work"),
        ("/homely", True, "wal", ""),
        ("/home/fast/x", True, "wal", ""),
        ("/soft/x", True, "", "/soft/x is on nfs mounted with nolock"),
        ("/lustre/a", True, "delete", "/lustre/a is on lustre"),
        ("/lustre/local", True, "", "/lustre/local is on lustre mounted with localflock"),
        ("/mnt/my disk/q", True, "wal", ""),
        ("/sshfs", False, "", "/sshfs is on fuse.sshfs, where file locks do not work"),
        ("/twice", True, "delete", "/twice is on ceph"),
    ],
)
def test_advice(folder: str, locks: bool, journal: str, reason: str) -> None:
    found = advise(Path(folder), MOUNTS, lambda _: locks)
    assert (found.journal, found.reason) == (journal, reason)


def test_where_the_kernel_does_not_tell_only_locks_are_trusted() -> None:
    assert advise(Path("/x"), "", lambda _: True).journal == "delete"
    assert mount_of("/x", "") is None


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filesystem.locks_work(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not filesystem.locks_work(tmp_path / "missing")
    assert mount_of("/proc/self", filesystem.read_mountinfo()) is not None
    monkeypatch.setattr(filesystem, "MOUNTINFO", tmp_path / "none")
    assert filesystem.read_mountinfo() == ""


def test_locks_that_never_conflict_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_lock", lambda _: None)
    assert not filesystem.locks_work(tmp_path)
