"""Code that travels: the same bytes whoever packs, nothing that leads out, and an unpacker that believes nothing."""

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.adapters.codepack import unpack
from pilot.config.codepack import CodeProblems, pack
from pilot.model.faults import Code
from pilot.model.files import CODE_BYTES_CAP, CODE_FILES_CAP, CODE_UNPACKED_CAP
from pilot.ports import PortError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    for name, text in {
        "train.py": "print(1)\n",
        "run.sh": "#!/bin/sh\n",
        "lib/a.py": "A = 1\n",
        "lib/deep/b.py": "B = 1\n",
        "lib/__pycache__/a.pyc": "x",
        "lib/.git/config": "x",
        "lib/notes.txt": "x",
        "data/big.root": "x",
    }.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (base / "run.sh").chmod(0o755)
    (base / "lib/empty").mkdir()
    return base


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    data, record = pack(folder, ["train.py", "lib/", "run.sh"])
    again = tmp_path / "again"
    unpack(data, record.sha256, again)
    os.utime(again / "train.py", (1, 1))
    (again / "train.py").chmod(0o600)
    assert pack(again, ["run.sh", "lib", "./train.py"])[0] == data
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert (record.size, record.names) == (len(data), ("lib", "run.sh", "train.py"))


def test_what_arrives_is_what_was_there(folder: Path, tmp_path: Path) -> None:
    data, record = pack(folder, ["."])
    unpack(data, record.sha256, tmp_path / "code")
    files = {str(each.relative_to(tmp_path / "code")) for each in (tmp_path / "code").rglob("*") if each.is_file()}
    assert files == {"train.py", "run.sh", "lib/a.py", "lib/deep/b.py", "lib/notes.txt", "data/big.root"}
    assert (tmp_path / "code/lib/empty").is_dir()
    assert os.access(tmp_path / "code/run.sh", os.X_OK)
    assert not os.access(tmp_path / "code/train.py", os.X_OK)


def test_the_ignore_file(folder: Path) -> None:
    (folder / ".pilotignore").write_text("# what stays\n*.txt\n/data\nlib/deep/\n\n")
    assert names(pack(folder, ["."])[0]) == ["lib", "lib/a.py", "lib/empty", "run.sh", "train.py"]
    assert "data/big.root" in names(pack(folder, ["data"])[0])  # what an entry names is meant


def test_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    (folder / "link.py").symlink_to("lib/a.py")
    data, record = pack(folder, ["link.py"])
    unpack(data, record.sha256, tmp_path / "code")
    assert not (tmp_path / "code/link.py").is_symlink()
    assert (tmp_path / "code/link.py").read_text() == "A = 1\n"
    (folder / "lib/out").symlink_to(tmp_path / "outside")
    with pytest.raises(CodeProblems, match="lib/out is a link that leads out"):
        pack(folder, ["lib"])
    (folder / "data/loop").symlink_to("..")
    with pytest.raises(CodeProblems, match="data/loop is a link that leads out, or to a directory"):
        pack(folder, ["data"])


def make_fifo(folder: Path) -> None:
    os.mkfifo(folder / "lib/fifo")


def make_many(folder: Path) -> None:
    for number in range(CODE_FILES_CAP + 1):
        (folder / f"lib/{number}").touch()


def make_large(folder: Path) -> None:
    with (folder / "lib/large").open("wb") as stream:
        stream.truncate(CODE_UNPACKED_CAP + 1)


def make_incompressible(folder: Path) -> None:
    (folder / "lib/noise").write_bytes(os.urandom(CODE_BYTES_CAP + 1000))


def make_hollow(folder: Path) -> None:
    with (folder / "lib/zeros").open("wb") as stream:
        stream.truncate(CODE_UNPACKED_CAP - 1_000_000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_fifo, "lib/fifo is neither a file nor a directory"),
        (make_many, "more than 10000 files; name fewer, or write a .pilotignore"),
        (make_large, "lib/large is larger than 200 MB; name data as an input instead"),
        (make_incompressible, "code of more than 20 MB when packed; name data as an input instead"),
        (make_hollow, "code that is nearly all one byte"),
        (lambda folder: (folder / "lib/a\nb").touch(), "'lib/a\\nb': a file name with special characters"),
        (lambda folder: (folder / f"lib/{'x' * 150}").touch(), "name is too long"),
    ],
)
def test_what_cannot_travel(folder: Path, make: Callable[[Path], object], said: str) -> None:
    make(folder)
    with pytest.raises(CodeProblems) as found:
        pack(folder, ["train.py", "lib"])
    assert said in str(found.value)


@pytest.mark.parametrize("entry", ["result.json", "control/x", ".pilot", "-x", "a b"])
def test_names_that_are_taken_or_odd(folder: Path, entry: str) -> None:
    with pytest.raises(CodeProblems):
        pack(folder, [entry])


# --- an archive that was made to do harm -------------------------------------------------------------------------


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def member(name: str, kind: bytes = tarfile.REGTYPE, **others: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type = kind
    for key, value in others.items():
        setattr(found, key, value)
    return found


def hollow(begin: bytes, zeros: int) -> bytes:
    """A gzip of those bytes and so many zeros, made without holding them."""
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(begin), *(packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)), packer.flush()]
    return b"".join(parts)


GOOD = (member("a.py"), b"x")

HARMFUL = {
    "dot-dot": archive(GOOD, (member("../x"), b"x")),
    "inner dot-dot": archive(GOOD, (member("a/../../x"), b"x")),
    "absolute": archive(GOOD, (member("/tmp/x"), b"x")),
    "empty name": archive(GOOD, (member("."), b"x")),
    "newline": archive(GOOD, (member("a\nb"), b"x")),
    "backslash": archive(GOOD, (member("a\\b"), b"x")),
    "twice": archive(GOOD, (member("a.py"), b"y")),
    "file as directory": archive(GOOD, (member("a.py/b"), b"y")),
    "symlink": archive(GOOD, (member("l", tarfile.SYMTYPE, linkname="/etc/passwd"), b"")),
    "hard link": archive(GOOD, (member("l", tarfile.LNKTYPE, linkname="a.py"), b"")),
    "device": archive(GOOD, (member("d", tarfile.CHRTYPE, devmajor=1, devminor=3), b"")),
    "fifo": archive(GOOD, (member("f", tarfile.FIFOTYPE), b"")),
    "extended header": archive(GOOD, (member("x" * 300), b"x"), form=tarfile.PAX_FORMAT),
    "GNU long name": archive(GOOD, (member("x" * 300), b"x"), form=tarfile.GNU_FORMAT),
    "grows too large": hollow(gzip.decompress(archive(GOOD)), CODE_UNPACKED_CAP),
    "too many": archive(*((member(f"f{number}"), b"") for number in range(CODE_FILES_CAP + 1001))),
    "cut gzip": archive(GOOD)[:-10],
    "behind the end": archive(GOOD) + b"more",
    "cut tar": gzip.compress(gzip.decompress(archive((member("a"), b"x" * 600)))[:1024]),
    "odd length": gzip.compress(gzip.decompress(archive(GOOD)) + b"x"),
    "no gzip": b"hello",
    "no tar": gzip.compress(b"x" * 512),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_archives_write_nothing(name: str, tmp_path: Path) -> None:
    data = HARMFUL[name]
    with pytest.raises(PortError) as found:
        unpack(data, hashlib.sha256(data).hexdigest(), tmp_path / "code")
    assert found.value.fault.code in {Code.JOB_INVALID, Code.PILOT_BUG}
    assert list(tmp_path.iterdir()) == []


def test_odd_modes_are_tamed(tmp_path: Path) -> None:
    data = archive((member("a", mode=0o6777), b"x"), (member("d", tarfile.DIRTYPE, mode=0o000), b""))
    unpack(data, hashlib.sha256(data).hexdigest(), tmp_path / "code")
    assert (tmp_path / "code/a").stat().st_mode & 0o7022 == 0
    (tmp_path / "code/d").rmdir()


def test_another_digest_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(PortError) as found:
        unpack(archive(GOOD), "00" * 32, tmp_path / "code")
    assert found.value.fault.code is Code.STAGE_IN_CHECKSUM
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_try_left_is_replaced(tmp_path: Path) -> None:
    data = archive(GOOD)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/old").touch()
    unpack(data, hashlib.sha256(data).hexdigest(), tmp_path / "code")
    assert [each.name for each in (tmp_path / "code").iterdir()] == ["a.py"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    data = archive(GOOD)
    (tmp_path / "file").touch()
    with pytest.raises(PortError) as found:
        unpack(data, hashlib.sha256(data).hexdigest(), tmp_path / "file" / "code")
    assert "Not a directory" in found.value.fault.detail
