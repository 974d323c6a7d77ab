"""What a payload or a queue of strangers can do to the sandbox's way in and out."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pilot.model.files import Input
from pilot.ports import Final, Sandbox
from pilot.shell.doors import Doors, House
from pilot.shell.staging import Staging, remove_tree


def _dig(folder: Path, levels: int, name: str) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        for _ in range(levels):
            os.mkdir(name)
            os.chdir(name)
        Path("file").write_bytes(b"x")
    finally:
        os.fchdir(here)
        os.close(here)


@pytest.mark.parametrize(("levels", "name"), [(1500, "d"), (60, "d" * 200), (900, "ä" * 10)])
def test_a_tree_deeper_than_a_path_may_be_is_removed(tmp_path: Path, levels: int, name: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    _dig(tree, levels, name)
    _dig(tree, 3, "shallow")
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("survived", [0, 1, 5])
def test_a_removal_that_was_cut_short_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    _dig(tree, 1500, "d")
    rename, left = os.rename, [None] * survived

    def killed(source: str, target: str) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_tree(tree)
    monkeypatch.undo()
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", "a\nb"])
def test_an_input_named_by_a_hostile_queue_stays_in_the_sandbox(tmp_path: Path, name: str) -> None:
    staging = Staging(cast(Doors, SimpleNamespace()), House(scratch=tmp_path, kept=tmp_path))
    with pytest.raises(Final, match="relative to the working directory"):
        staging._input(Input(url="file:///x", name=name), Sandbox(tmp_path), lambda: False)
    assert list(tmp_path.iterdir()) == []
