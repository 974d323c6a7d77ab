"""An emptied sandbox is what a new one would be, or it is not kept."""

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.ports import Sandbox
from pilot.shell.spares import Spares
from pilot.shell.staging import _make, remove_tree


@pytest.fixture
def spares(tmp_path: Path) -> Spares:
    return Spares(tmp_path / "spare", remove_tree)


def used(root: Path) -> Sandbox:
    sandbox = Sandbox(root)
    _make(sandbox)
    for name in ("control", "checkpoint", ".pilot", "own/deep"):
        (sandbox.work / name).mkdir(parents=True)
    (sandbox.pilot / "run").mkdir()
    for path in (sandbox.work / "own/deep/x", sandbox.logs / "stdout", sandbox.pilot / "run/exit.json"):
        path.write_text("x")
    (sandbox.tmp / "link").symlink_to("/etc")
    (sandbox.home / "pipe").parent.mkdir(exist_ok=True)
    os.mkfifo(sandbox.home / "pipe")
    return sandbox


def names(root: Path) -> set[str]:
    return {str(each.relative_to(root)) for each in root.rglob("*")}


def test_nothing_of_the_last_job_is_left_for_the_next(tmp_path: Path, spares: Spares) -> None:
    assert spares.keep(used(tmp_path / "a").root, "ada")
    assert not (tmp_path / "a").exists()
    assert spares.take(tmp_path / "b", "ada")
    assert not spares.take(tmp_path / "c", "ada")
    assert names(tmp_path / "b") == {
        "work", "work/control", "work/checkpoint", "work/.pilot", "home", "tmp", "in", "code", "pilot", "pilot/run",
        "logs", "logs/stdout", "pilot/run/.exit.json.part",
    }  # fmt: skip
    assert (tmp_path / "b/logs/stdout").read_bytes() == b""
    assert Path("/etc/passwd").exists()
    spares.close()
    assert os.listdir(tmp_path) == ["b"]


def test_a_log_that_has_another_name_is_not_emptied(tmp_path: Path, spares: Spares) -> None:
    sandbox = used(tmp_path / "a")
    (tmp_path / "elsewhere").hardlink_to(sandbox.logs / "stdout")
    (sandbox.logs / "stderr").symlink_to(tmp_path / "elsewhere")
    assert spares.keep(sandbox.root, "ada")
    assert (tmp_path / "elsewhere").read_text() == "x"
    assert spares.take(tmp_path / "b", "ada")
    assert not names(tmp_path / "b") & {"logs/stdout", "logs/stderr"}


def replaced_by_link(sandbox: Sandbox) -> None:
    remove_tree(sandbox.tmp)
    sandbox.tmp.symlink_to("/etc")


@pytest.mark.parametrize(
    "change",
    [
        lambda sandbox: sandbox.work.chmod(0o777),
        lambda sandbox: sandbox.home.chmod(0o500),
        lambda sandbox: (sandbox.work / "control").chmod(0o2755),
        lambda sandbox: os.setxattr(sandbox.tmp, "user.word", b"from the last job"),
    ],
)
def test_a_changed_folder_is_not_kept(tmp_path: Path, spares: Spares, change: Callable[[Sandbox], None]) -> None:
    sandbox = used(tmp_path / "a")
    change(sandbox)
    assert not spares.keep(sandbox.root, "ada")
    remove_tree(sandbox.root)
    assert os.listdir(tmp_path) == []


def listed(sandbox: Sandbox) -> None:
    """An access list as `setfacl -d -m u:65534:rwx` puts it on a folder: its files would inherit it."""
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 65534), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    try:
        os.setxattr(sandbox.work, "system.posix_acl_default", value)
    except OSError as problem:
        pytest.skip(f"no access lists here: {problem}")


def test_a_folder_with_an_access_list_is_not_kept(tmp_path: Path, spares: Spares) -> None:
    sandbox = used(tmp_path / "a")
    listed(sandbox)
    assert not spares.keep(sandbox.root, "ada")


def test_what_cannot_be_seen_stays_among_the_jobs_of_one_owner(tmp_path: Path, spares: Spares) -> None:
    """A daemon that no sweep found holds the old log open and stands in the old folder: another owner's is new."""
    sandbox = used(tmp_path / "a")
    log = os.open(sandbox.logs / "stdout", os.O_WRONLY)
    folder = os.open(sandbox.work, os.O_RDONLY)
    try:
        assert spares.keep(sandbox.root, "ada")
        assert not spares.take(tmp_path / "b", "grace")
        assert not spares.take(tmp_path / "b", "")
        _make(Sandbox(tmp_path / "b"))
        (tmp_path / "b/logs/stdout").touch()
        os.write(log, b"late")
        os.close(os.open("late", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
        assert (tmp_path / "b/logs/stdout").read_bytes() == b""
        assert not (tmp_path / "b/work/late").exists()
        assert spares.take(tmp_path / "c", "ada")
        assert (tmp_path / "c/logs/stdout").stat().st_ino == os.fstat(log).st_ino
    finally:
        os.close(log)
        os.close(folder)


def test_a_folder_that_the_file_system_was_told_to_lock_stays_with_its_owner(tmp_path: Path, spares: Spares) -> None:
    """Only root can do that, in a pilot without containers."""
    sandbox = used(tmp_path / "a")
    locked = subprocess.run(["chattr", "+i", str(sandbox.tmp)], capture_output=True, check=False, timeout=10)
    if locked.returncode:
        pytest.skip("nobody here may lock a folder")
    try:
        spares.keep(sandbox.root, "ada")
        assert not spares.take(tmp_path / "b", "grace")
    finally:
        for each in tmp_path.rglob("tmp"):
            subprocess.run(["chattr", "-i", str(each)], check=True, timeout=10)


def test_sandboxes_of_nobody_are_not_kept(tmp_path: Path, spares: Spares) -> None:
    assert not spares.keep(used(tmp_path / "a").root, "")


def test_owners_who_take_turns_keep_no_more_than_one_alone(tmp_path: Path, spares: Spares) -> None:
    for number in range(40):
        root = used(tmp_path / str(number)).root
        if not spares.keep(root, "ada" if number < 20 else "grace"):
            remove_tree(root)
    assert len(os.listdir(tmp_path / "spare")) == 16
    assert not spares.take(tmp_path / "b", "ada")
    assert spares.take(tmp_path / "b", "grace")


def test_a_link_in_a_folders_place_is_no_folder(tmp_path: Path, spares: Spares) -> None:
    sandbox = used(tmp_path / "a")
    replaced_by_link(sandbox)
    assert spares.keep(sandbox.root, "ada")
    assert spares.take(tmp_path / "b", "ada")
    assert "tmp" not in names(tmp_path / "b")
    assert Path("/etc/passwd").exists()


def test_what_a_killed_pilot_kept_is_not_given_out(tmp_path: Path, spares: Spares) -> None:
    assert spares.keep(used(tmp_path / "a").root, "ada")
    (tmp_path / "spare" / "0" / "work" / "changed").write_text("x")
    later = Spares(tmp_path / "spare", remove_tree)
    assert not later.take(tmp_path / "b", "ada")
    assert later.keep(used(tmp_path / "c").root, "ada")
    assert os.listdir(tmp_path / "spare") == ["0"]
    assert later.take(tmp_path / "b", "ada")
    assert "work/changed" not in names(tmp_path / "b")
    later.close()
    assert sorted(os.listdir(tmp_path)) == ["b"]


def test_what_is_gone_is_not_kept(tmp_path: Path, spares: Spares) -> None:
    assert not spares.keep(tmp_path / "never", "ada")
    spares.close()
    assert os.listdir(tmp_path) == []
