"""Packs the code that travels with a job: the same files give the same bytes, whoever packs them and when."""

import fnmatch
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pilot.config import names
from pilot.config.problems import shown
from pilot.model.files import CODE_BYTES_CAP, CODE_FILES_CAP, CODE_RATIO_CAP, CODE_UNPACKED_CAP, CodePack

IGNORE_FILE = ".pilotignore"
IGNORED = (".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", ".*_cache", ".ipynb_checkpoints", IGNORE_FILE)


class CodeProblems(Exception):
    """Entries of `code` cannot be packed: the index of each, and why."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def pack(base: Path, entries: Sequence[str]) -> tuple[bytes, CodePack]:
    """The archive of those files and directories, and its record; raises CodeProblems.

    A link to a file inside `base` is packed as that file; every other link is refused, for on the node it would lead
    nowhere, or somewhere else.
    """
    members = _all_members(base, entries)
    try:
        data = _archive(members)
    except ValueError as error:
        raise CodeProblems([(0, str(error))]) from None
    except OSError as error:
        raise CodeProblems([(0, f"{error.filename}: {error.strerror}")]) from None
    tops = tuple(sorted({PurePosixPath(each).parts[0] for each in members}))
    return data, CodePack(hashlib.sha256(data).hexdigest(), len(data), tops)


def _all_members(base: Path, entries: Sequence[str]) -> dict[str, Path]:
    ignored = _Ignored(base)
    members: dict[str, Path] = {}
    problems: list[tuple[int, str]] = []
    for index, entry in enumerate(entries):
        try:
            members |= _members(base.resolve(), _checked(entry), ignored)
        except ValueError as error:
            problems.append((index, str(error)))
        except OSError as error:
            problems.append((index, f"{shown(entry)[5:]}: {error.strerror}"))
    if problems:
        raise CodeProblems(problems)
    return members


def _checked(entry: str) -> str:
    """The entry as a relative path without `.` and doubled slashes."""
    path = PurePosixPath(entry)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{shown(entry)[5:]} leads out of the job file's directory: code stands beside or below it")
    if path.parts:
        names.input_name(path.parts[0])
    return str(path)


class _Ignored:
    """Which files stay behind: the usual rubbish, and what `.pilotignore` names (one pattern a line)."""

    def __init__(self, base: Path) -> None:
        self._patterns = [*IGNORED, *self._written(base / IGNORE_FILE)]

    @staticmethod
    def _written(path: Path) -> Iterator[str]:
        try:
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
        except OSError:
            return
        yield from (line.strip() for line in lines if line.strip() and not line.startswith("#"))

    def match(self, relative: str, is_directory: bool) -> bool:
        """Whether that file stays behind. A pattern with a slash inside counts from the job file."""
        return any(self._matches(each, relative, is_directory) for each in self._patterns)

    @staticmethod
    def _matches(pattern: str, relative: str, is_directory: bool) -> bool:
        if pattern.endswith("/") and not is_directory:
            return False
        bare = pattern.rstrip("/")
        name = relative if "/" in bare else relative.rpartition("/")[2]
        return fnmatch.fnmatchcase(name, bare.lstrip("/"))


def _members(base: Path, entry: str, ignored: _Ignored) -> dict[str, Path]:
    """Archive name -> file or directory, of one entry; what the entry itself names is never ignored."""
    found: dict[str, Path] = {}
    _collect(base, entry, ignored, found)
    found.pop(".", None)
    for parent in PurePosixPath(entry).parents:
        if str(parent) != ".":
            found[str(parent)] = base / parent
    return found


def _collect(base: Path, relative: str, ignored: _Ignored, found: dict[str, Path]) -> None:
    path = base / relative
    _check_name(relative)
    found[relative] = path
    if len(found) > CODE_FILES_CAP:
        raise ValueError(f"more than {CODE_FILES_CAP} files; name fewer, or write a {IGNORE_FILE}")
    if not stat.S_ISDIR(_kind(base, path)):
        return
    for child in sorted(os.listdir(path)):
        below = child if relative == "." else f"{relative}/{child}"
        if not ignored.match(below, (path / child).is_dir()):
            _collect(base, below, ignored, found)


def _check_name(relative: str) -> None:
    if not relative.isprintable() or "\\" in relative:
        raise ValueError(f"{shown(relative)[5:]}: a file name with special characters cannot travel")


def _kind(base: Path, path: Path) -> int:
    """The mode of a file or directory, links followed where that is safe."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
        if not target.is_relative_to(base) or not stat.S_ISREG(mode):
            raise ValueError(f"{path.relative_to(base)} is a link that leads out, or to a directory: name its target")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path.relative_to(base)} is neither a file nor a directory")
    return mode


def _archive(members: dict[str, Path]) -> bytes:
    """A gzipped tar of old (ustar) form: sorted, owned by nobody in particular, from the beginning of time."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(members):
            _add(tar, name, members[name])
            if plain.tell() > CODE_UNPACKED_CAP:
                raise ValueError(f"code of more than {CODE_UNPACKED_CAP // 10**6} MB; name data as an input instead")
    data = gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)
    if len(data) > CODE_BYTES_CAP:
        raise ValueError(f"code of more than {CODE_BYTES_CAP // 10**6} MB when packed; name data as an input instead")
    if plain.tell() > CODE_RATIO_CAP * len(data) + CODE_BYTES_CAP:
        raise ValueError("code that is nearly all one byte; make such files in the payload instead")
    return data


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    status = path.stat()
    record = tarfile.TarInfo(name)
    if stat.S_ISDIR(status.st_mode):
        record.type, record.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(record)
        return
    if status.st_size > CODE_UNPACKED_CAP:
        raise ValueError(f"{name} is larger than {CODE_UNPACKED_CAP // 10**6} MB; name data as an input instead")
    content = path.read_bytes()
    record.mode, record.size = (0o755 if status.st_mode & stat.S_IXUSR else 0o644), len(content)
    tar.addfile(record, io.BytesIO(content))
