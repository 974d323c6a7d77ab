"""Checkpoint generations as archives: regular files and folders only, because payloads write the one and get the other.

Written by hand on `tarfile`'s reader and writer: its own extraction filter is not there before Python 3.11.4 (Debian
12 has 3.11.2), and its `add` follows a link that a running payload puts in a file's place.
"""

import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.shell import below

_RUNNABLE = 0o100


def pack(work: Path, name: str, archive: Path) -> bool:
    """A tar without times and owners: the same generation gives the same bytes; False where it is not there any more.

    The payload may still be running: its checkpoint folder is walked from one descriptor on, never by its path.
    """
    try:
        generation = below.descend(work, "checkpoint", name)
    except (FileNotFoundError, NotADirectoryError):  # the payload took it away, or put a link in its place
        return False
    try:
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            _pack(tar, name, generation)
    finally:
        os.close(generation)
    return True


def _pack(tar: tarfile.TarFile, name: str, generation: int) -> None:
    tar.addfile(_member(name, tarfile.DIRTYPE, 0o755))
    for place, folders, names, descriptor in os.fwalk(".", dir_fd=generation, follow_symlinks=False):
        folders.sort()
        inside = PurePosixPath(name, place)
        for each in folders:
            if _is_folder(descriptor, each):
                tar.addfile(_member(str(inside / each), tarfile.DIRTYPE, 0o755))
        for each in sorted(names):
            _add(tar, descriptor, each, str(inside / each))


def _is_folder(above: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _add(tar: tarfile.TarFile, folder: int, name: str, inside: str) -> None:
    """A regular file; links, FIFOs and what has vanished meanwhile are left out."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        seen = os.fstat(descriptor)
        if stat.S_ISREG(seen.st_mode):
            member = _member(inside, tarfile.REGTYPE, 0o755 if seen.st_mode & _RUNNABLE else 0o644)
            member.size = seen.st_size
            tar.addfile(member, file)


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


def unpack(archive: Path, target: Path) -> None:
    """Makes the folder `target` of an archive; raises Final for one that holds anything but files and folders."""
    target.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _write(tar, member, target)
    except (tarfile.TarError, FileExistsError, FileNotFoundError) as error:
        raise Final(Code.STAGE_IN_CHECKSUM, f"{archive.name}: no checkpoint that can be restored: {error}") from error


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder of it")
    place = target / path
    if member.isdir():
        place.mkdir(mode=0o700)
        return
    source = tar.extractfile(member)
    assert source is not None  # a regular file has bytes
    with source, place.open("xb") as file:
        shutil.copyfileobj(source, file)
        os.fchmod(file.fileno(), member.mode & 0o755)
