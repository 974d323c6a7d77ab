"""Checkpoints as archives: what goes in comes out, and nothing else does."""

import ctypes
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from pilot.ports import Final, Gone, Sandbox
from pilot.shell import generations
from pilot.shell.contract import ending_of, newest_generation

NAME = "gen-000003"


def generation(root: Path) -> Path:
    folder = root / "checkpoint" / NAME
    (folder / "deep").mkdir(parents=True)
    (folder / "generation.json").write_text("{}")
    (folder / "deep" / "model.pt").write_bytes(b"x" * 100_000)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o700)
    return folder


def test_a_generation_comes_out_as_it_went_in(tmp_path: Path) -> None:
    folder, archive, target = generation(tmp_path), tmp_path / "a.tar", tmp_path / "out"
    generations.pack(tmp_path, NAME, archive)
    generations.unpack(archive, target)
    for name in ("generation.json", "deep/model.pt", "run"):
        assert (target / folder.name / name).read_bytes() == (folder / name).read_bytes()
    assert os.access(target / folder.name / "run", os.X_OK)
    assert not os.access(target / folder.name / "generation.json", os.X_OK)


def test_the_same_generation_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = generation(tmp_path)
    generations.pack(tmp_path, NAME, tmp_path / "a.tar")
    for each in folder.rglob("*"):
        os.utime(each, (1, 1))
    generations.pack(tmp_path, NAME, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_links_and_fifos_of_a_payload_bring_nothing_of_the_node_along(tmp_path: Path) -> None:
    folder = generation(tmp_path)
    (tmp_path / "secret").write_text("of the node")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    generations.pack(tmp_path, NAME, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = tar.getnames()
    assert not {"link", "linked", "fifo"} & {Path(each).name for each in names}
    assert b"of the node" not in (tmp_path / "a.tar").read_bytes()


def planted(path: Path, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, target, 3 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"bad") if member.size else None)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("/etc/x", tarfile.REGTYPE), ("../x", tarfile.REGTYPE), ("a/../../x", tarfile.REGTYPE), ("link", tarfile.SYMTYPE),
     ("hard", tarfile.LNKTYPE), ("node", tarfile.CHRTYPE), ("fifo", tarfile.FIFOTYPE)],
)  # fmt: skip
def test_an_archive_that_holds_anything_else_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    archive = planted(tmp_path / "a.tar", name, kind, "/etc/passwd")
    with pytest.raises(Final, match="no checkpoint that can be restored"):
        generations.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    generation(tmp_path)
    generations.pack(tmp_path, NAME, tmp_path / "a.tar")
    os.truncate(tmp_path / "a.tar", 5000)
    with pytest.raises(Final, match="no checkpoint that can be restored"):
        generations.unpack(tmp_path / "a.tar", tmp_path / "out")


EXCHANGE = 2  # renameat2(2)
TURNS = 3000


def swap_for_ever(one: Path, other: Path, over: threading.Event) -> None:
    """What a payload does that wants to be mistaken for its folder: both names are always there."""
    libc = ctypes.CDLL(None, use_errno=True)
    while not over.is_set():
        libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), EXCHANGE)


@pytest.mark.parametrize("level", ["checkpoint", f"checkpoint/{NAME}"])
def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(tmp_path: Path, level: str) -> None:
    sandbox = Sandbox(tmp_path / "box")
    generation(sandbox.work)
    host = generation(tmp_path / "host")
    (host / "secret").write_text("of the node")
    decoy = sandbox.work / "decoy"
    decoy.symlink_to(tmp_path / "host" / level)
    (tmp_path / "a.tar").touch()
    over, found = threading.Event(), set()
    swapper = threading.Thread(target=swap_for_ever, args=(sandbox.work / level, decoy, over))
    swapper.start()
    try:
        for _ in range(TURNS):
            found.add(newest_generation(sandbox))
            generations.pack(sandbox.work, NAME, tmp_path / "a.tar")
            assert b"of the node" not in (tmp_path / "a.tar").read_bytes()
    finally:
        over.set()
        swapper.join()
    assert found == {"", NAME}, "it was never swapped in time, or something else was found"


def test_the_marker_is_not_read_through_a_link(tmp_path: Path) -> None:
    sandbox, host = Sandbox(tmp_path / "box"), tmp_path / "host"
    sandbox.work.mkdir(parents=True)
    host.mkdir(mode=0o755)
    (host / "marker").write_text("secret of the node")
    (sandbox.work / ".pilot").symlink_to(host)
    assert ending_of(Gone("17.2.run", 0, None, gone=True), sandbox, "").marker == "started"
    assert host.stat().st_mode & 0o777 == 0o755
