"""An emptied sandbox is what a new one would be, or it is not kept."""

import os
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
    assert spares.keep(used(tmp_path / "a").root)
    assert not (tmp_path / "a").exists()
    assert spares.take(tmp_path / "b")
    assert not spares.take(tmp_path / "c")
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
    assert spares.keep(sandbox.root)
    assert (tmp_path / "elsewhere").read_text() == "x"
    assert spares.take(tmp_path / "b")
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
    assert not spares.keep(sandbox.root)
    remove_tree(sandbox.root)
    assert os.listdir(tmp_path) == []


def test_a_link_in_a_folders_place_is_no_folder(tmp_path: Path, spares: Spares) -> None:
    sandbox = used(tmp_path / "a")
    replaced_by_link(sandbox)
    assert spares.keep(sandbox.root)
    assert spares.take(tmp_path / "b")
    assert "tmp" not in names(tmp_path / "b")
    assert Path("/etc/passwd").exists()


def test_what_a_killed_pilot_kept_is_not_given_out(tmp_path: Path, spares: Spares) -> None:
    assert spares.keep(used(tmp_path / "a").root)
    (tmp_path / "spare" / "0" / "work" / "changed").write_text("x")
    later = Spares(tmp_path / "spare", remove_tree)
    assert not later.take(tmp_path / "b")
    assert later.keep(used(tmp_path / "c").root)
    assert os.listdir(tmp_path / "spare") == ["0"]
    assert later.take(tmp_path / "b")
    assert "work/changed" not in names(tmp_path / "b")
    later.close()
    assert sorted(os.listdir(tmp_path)) == ["b"]


def test_what_is_gone_is_not_kept(tmp_path: Path, spares: Spares) -> None:
    assert not spares.keep(tmp_path / "never")
    spares.close()
    assert os.listdir(tmp_path) == []
