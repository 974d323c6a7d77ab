"""Checkpoints as archives: what goes in comes out, and nothing else does."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from pilot.ports import Final
from pilot.shell import generations


def generation(root: Path) -> Path:
    folder = root / "gen-000003"
    (folder / "deep").mkdir(parents=True)
    (folder / "generation.json").write_text("{}")
    (folder / "deep" / "model.pt").write_bytes(b"x" * 100_000)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o700)
    return folder


def test_a_generation_comes_out_as_it_went_in(tmp_path: Path) -> None:
    folder, archive, target = generation(tmp_path), tmp_path / "a.tar", tmp_path / "out"
    generations.pack(folder, archive)
    generations.unpack(archive, target)
    for name in ("generation.json", "deep/model.pt", "run"):
        assert (target / folder.name / name).read_bytes() == (folder / name).read_bytes()
    assert os.access(target / folder.name / "run", os.X_OK)
    assert not os.access(target / folder.name / "generation.json", os.X_OK)


def test_the_same_generation_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = generation(tmp_path)
    generations.pack(folder, tmp_path / "a.tar")
    for each in folder.rglob("*"):
        os.utime(each, (1, 1))
    generations.pack(folder, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_links_and_fifos_of_a_payload_bring_nothing_of_the_node_along(tmp_path: Path) -> None:
    folder = generation(tmp_path)
    (tmp_path / "secret").write_text("of the node")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    generations.pack(folder, tmp_path / "a.tar")
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
    generations.pack(generation(tmp_path), tmp_path / "a.tar")
    os.truncate(tmp_path / "a.tar", 5000)
    with pytest.raises(Final, match="no checkpoint that can be restored"):
        generations.unpack(tmp_path / "a.tar", tmp_path / "out")
