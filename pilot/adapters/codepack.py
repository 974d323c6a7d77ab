"""Unpacks the code that travels with a job, checked whole before a byte of it is written."""

import errno
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pilot.model.faults import Code
from pilot.model.files import CODE_BYTES_CAP, CODE_FILES_CAP, CODE_RATIO_CAP, CODE_UNPACKED_CAP
from pilot.ports import Final, Passing

_BLOCK = 512
_FILE, _DIRECTORY = b"0", b"5"


def unpack(data: bytes, sha256: str, target: Path) -> None:
    """Makes the directory `target` of the archive; raises a PortError leaf, and then leaves nothing.

    Everything is checked before the first write: the digest, then every header (files and directories only, no
    extension, sizes within the caps), then every name. What an earlier try left there is replaced; the caller makes
    the whole appear at once (a rename), if it must survive a crash.
    """
    if len(data) > CODE_BYTES_CAP or hashlib.sha256(data).hexdigest() != sha256:
        raise Passing(Code.STAGE_IN_CHECKSUM, f"the job's code is not the archive with sha256 {sha256}")
    _check_headers(data)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        members = list(tar)
        _check_names([each.name for each in members])
        _write(tar, members, target)


def _refused(detail: str) -> Final:
    return Final(Code.JOB_INVALID, f"the job's code: {detail}")


def _check_headers(data: bytes) -> None:
    """Walks the headers without believing any: nothing that follows can be made to read or write too much."""
    cap = min(CODE_UNPACKED_CAP, CODE_RATIO_CAP * len(data) + CODE_BYTES_CAP) + _BLOCK * 20  # and the end's padding
    skip = count = 0
    for block in _blocks(data, cap):
        if skip:
            skip -= 1
        elif any(block):
            count += 1
            skip = _blocks_behind(block)
        if count > CODE_FILES_CAP + 1000:  # parents are added to what was counted when packing
            raise _refused("too many files")
    if skip:
        raise _refused("the archive is cut short")


def _blocks(data: bytes, cap: int) -> Iterator[bytes]:
    """The plain bytes, block by block, a mebibyte in memory at a time."""
    unzip = zlib.decompressobj(wbits=31)
    total, packed = 0, data
    try:
        while packed and not unzip.eof:
            plain = unzip.decompress(packed, 1 << 20)
            packed = unzip.unconsumed_tail
            total += len(plain)
            if total > cap:
                raise _refused("it grows too large when unpacked")
            if len(plain) % _BLOCK:
                raise _refused("not a tar archive")
            yield from (plain[start : start + _BLOCK] for start in range(0, len(plain), _BLOCK))
    except zlib.error as error:
        raise _refused(f"not a gzip archive: {error}") from None
    if not unzip.eof or unzip.unused_data:
        raise _refused("the archive is cut short, or goes on behind its end")


def _blocks_behind(header: bytes) -> int:
    kind, size = header[156:157], header[124:136].rstrip(b"\0 ")
    if kind not in {_FILE, _DIRECTORY}:
        raise _refused("it holds something that is neither a file nor a directory")
    if not size.isdigit() or (kind == _DIRECTORY and int(size, 8)):
        raise _refused("a header that says no size")
    return -(-int(size, 8) // _BLOCK)


def _check_names(names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable() or "\\" in name:
            raise _refused(f"the name {name!a} cannot be unpacked")
    if len(set(names)) != len(names):
        raise _refused("it holds a name twice")


def _write(tar: tarfile.TarFile, members: list[tarfile.TarInfo], target: Path) -> None:
    try:
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for member in members:
            _write_one(tar, member, target / member.name)
    except tarfile.TarError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise _refused(str(error)) from None
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        code = Code.SCRATCH_FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else Code.PILOT_BUG
        raise Passing(code, f"the job's code at {target}: {error}") from None


def _write_one(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    """One checked file or directory. By hand: `extract(filter=...)` is not there before Python 3.11.4."""
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # the headers were checked: it is a regular file
    with source, place.open("xb") as file:
        shutil.copyfileobj(source, file)
        os.fchmod(file.fileno(), member.mode & 0o755)
