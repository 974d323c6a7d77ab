"""Finds a job's outputs in its working directory, where the payload could put anything."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from pilot.adapters.beneath import EscapeError, Found, opened, resolve
from pilot.adapters.entry import MARKER_FOLDER, TERMS
from pilot.model.faults import Code
from pilot.model.files import Output
from pilot.ports import Final, Sandbox

# What the pilot itself puts into the working directory is nobody's output.
_OURS = frozenset({MARKER_FOLDER, *TERMS})
_LONGEST_NAME = 1024
_DEEPEST = 64


class Outputs:
    """Names and patterns to files, links resolved below the working directory only.

    A link that stays inside is followed (trainers link the last checkpoint to the best one); one that leads out, a
    hard link to a file outside, a device, FIFO or socket is `output.escape`. A folder stands for all files in it.
    Inputs, code and the pilot's own files never count.
    """

    def __init__(self, workdir: str = "/srv") -> None:
        self._workdir = workdir

    def __call__(self, work: Path, outputs: Sequence[Output]) -> Sequence[tuple[str, Path]]:
        """Name and path of every output, in the order asked for, each file once."""
        search = _Search(work.resolve(), self._workdir)
        found: dict[str, Path] = {}
        for output in outputs:
            found.update(search.files(output))
        return tuple(found.items())


class _Search:
    """One look through one working directory."""

    def __init__(self, work: Path, workdir: str) -> None:
        self._work = work
        self._aliases = (workdir, str(work))
        self._apart = _OURS | _names_below(Sandbox(work.parent))

    def files(self, output: Output) -> dict[str, Path]:
        """The files that one output of the job means."""
        names = _checked(output).split("/")
        try:
            found = {name: path for each in self._matching("", names) for name, path in self._below(each)}
        except EscapeError as problem:
            raise Final(Code.OUTPUT_ESCAPE, str(problem)) from None
        except OSError as error:
            raise Final(Code.OUTPUT_MISSING, f"{output.name}: {error.strerror}") from error
        if not found and not output.optional:
            raise Final(Code.OUTPUT_MISSING, f"{output.name}: the payload wrote no such file")
        return found

    def _matching(self, folder: str, patterns: list[str]) -> Iterator[str]:
        """Names below `folder` that match, one pattern per level."""
        head, *rest = patterns
        for name in self._children(folder, head):
            path = f"{folder}/{name}" if folder else name
            if path in self._apart:
                continue
            if not rest:
                yield path
            elif (seen := self._resolved(path)) and stat.S_ISDIR(seen.stat.st_mode):
                yield from self._matching(path, rest)

    def _children(self, folder: str, pattern: str) -> list[str]:
        if not any(each in pattern for each in "*?["):
            return [pattern]
        hidden = pattern.startswith(".")
        names = [each for each in self._listing(folder) if hidden or not each.startswith(".")]
        return sorted(each for each in names if fnmatchcase(each, pattern))

    def _listing(self, folder: str) -> list[str]:
        where = self._resolved(folder) if folder else None
        with opened(self._work, where.parts if where else ()) as descriptor:
            return os.listdir(descriptor)

    def _resolved(self, name: str) -> Found | None:
        try:
            return resolve(self._work, name, self._aliases)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _below(self, name: str) -> Iterator[tuple[str, Path]]:
        """The file of that name, or all files in the folder of that name."""
        seen = self._resolved(name)
        if seen is None:
            return
        if not stat.S_ISDIR(seen.stat.st_mode):
            yield from self._file(name, seen)
        elif "/".join(seen.parts) not in self._apart:
            with opened(self._work, seen.parts) as folder:
                yield from self._tree(folder, name, seen.parts)

    def _tree(self, folder: int, name: str, parts: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
        """All files in the open folder, which is `parts` below the working directory."""
        if len(parts) > _DEEPEST:
            raise Final(Code.OUTPUT_NAME, f"{name[:80]}...: folders more than {_DEEPEST} deep")
        for each in sorted(os.listdir(folder)):
            seen = Found((*parts, each), os.stat(each, dir_fd=folder, follow_symlinks=False))
            if stat.S_ISLNK(seen.stat.st_mode):
                yield from self._linked(f"{name}/{each}")
            elif not stat.S_ISDIR(seen.stat.st_mode):
                yield from self._file(f"{name}/{each}", seen)
            elif "/".join(seen.parts) not in self._apart:
                with opened(folder, (each,)) as below:
                    yield from self._tree(below, f"{name}/{each}", seen.parts)

    def _linked(self, name: str) -> Iterator[tuple[str, Path]]:
        seen = self._resolved(name)
        if seen is not None and stat.S_ISDIR(seen.stat.st_mode):
            # Two links to a folder above would make a folder without end.
            raise EscapeError(f"{name}: a link to a folder, inside a folder that is an output")
        if seen is not None:
            yield from self._file(name, seen)

    def _file(self, name: str, seen: Found) -> Iterator[tuple[str, Path]]:
        if "/".join(seen.parts) in self._apart:
            return
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise Final(Code.OUTPUT_NAME, f"{name!r}: a name has printable characters only, at most {_LONGEST_NAME}")
        if not stat.S_ISREG(seen.stat.st_mode):
            raise EscapeError(f"{name}: it is a device, FIFO or socket, not a file")
        if seen.stat.st_nlink > 1 and self._inodes[seen.stat.st_dev, seen.stat.st_ino] < seen.stat.st_nlink:
            raise EscapeError(f"{name}: a hard link to a file outside of the working directory")
        yield name, self._work.joinpath(*seen.parts)

    @cached_property
    def _inodes(self) -> Counter[tuple[int, int]]:
        """How many names each file has below the working directory: counted only where one has several."""
        found: Counter[tuple[int, int]] = Counter()
        for _, _, names, folder in os.fwalk(self._work):
            for name in names:
                seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
                found[seen.st_dev, seen.st_ino] += 1
        return found


def _checked(output: Output) -> str:
    """The pattern, free of anything that leads out: also where nobody checked the job before."""
    name = output.name.removesuffix("/")
    if not name or name.startswith(("/", "~")) or ".." in name.split("/") or not name.isprintable():
        raise Final(Code.OUTPUT_NAME, f"{output.name!r}: write a name relative to the working directory, without ..")
    return name


def _names_below(sandbox: Sandbox) -> frozenset[str]:
    """The names under which inputs and the top entries of the code appear in the working directory."""
    code = os.listdir(sandbox.code) if sandbox.code.is_dir() else []
    inputs = [
        str(Path(folder, each).relative_to(sandbox.inputs))
        for folder, _, names in os.walk(sandbox.inputs)
        for each in names
    ]
    return frozenset((*code, *inputs))
