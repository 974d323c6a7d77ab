"""What control groups allow this process: versions 1 and 2, over the whole chain of parents that can be seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pilot.adapters.probe_host.files import Notes, core_list
from pilot.model.capability import Bound

UNLIMITED = 1 << 60  # version 1 writes the largest multiple of a page for "no limit"


@dataclass(frozen=True, slots=True)
class Group:
    """One control group that this process is in, or a parent of it: its directory, its version, its controllers."""

    directory: Path
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What was found: bounds on cores by quota, on memory, and the core numbers of cpusets."""

    cpus: tuple[Bound, ...]
    memory: tuple[Bound, ...]
    cores: tuple[tuple[str, frozenset[int]], ...]


def allowed(root: Path, notes: Notes) -> Allowed:
    """Every limit of every group of this process, the nearest first."""
    chain = list(groups(root, notes))
    cpus = [each for group in chain if "cpu" in group.controllers for each in _quota(root, group, notes)]
    memory = [each for group in chain if "memory" in group.controllers for each in _memory(root, group, notes)]
    cores = [each for group in chain if "cpuset" in group.controllers for each in _cpuset(root, group, notes)]
    return Allowed(tuple(cpus), tuple(memory), tuple(cores))


def groups(root: Path, notes: Notes) -> Iterator[Group]:
    """The groups of this process and their parents, as far up as the mounts show."""
    mounts = list(_mounts(root, notes))
    for line in notes.text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        version = 2 if number == "0" and not names else 1
        wanted = frozenset(names.split(",")) if version == 1 else frozenset({"cpu", "memory", "cpuset"})
        mount = next((each for each in mounts if each.version == version and each.shows(wanted)), None)
        if mount is not None:
            yield from (Group(each, version, wanted) for each in _upwards(root, mount, path))


@dataclass(frozen=True, slots=True)
class _Mount:
    root: PurePosixPath
    point: PurePosixPath
    version: int
    options: frozenset[str]

    def shows(self, controllers: frozenset[str]) -> bool:
        return self.version == 2 or bool(controllers & self.options)


def _mounts(root: Path, notes: Notes) -> Iterator[_Mount]:
    for line in notes.text(root / "proc/self/mountinfo").splitlines():
        before, separator, after = line.partition(" - ")
        fields, behind = before.split(" "), after.split(" ")
        if separator and len(fields) > 4 and len(behind) > 2 and behind[0] in {"cgroup", "cgroup2"}:
            inside, point = PurePosixPath(_plain(fields[3])), PurePosixPath(_plain(fields[4]))
            yield _Mount(inside, point, 2 if behind[0] == "cgroup2" else 1, frozenset(behind[2].split(",")))


def _plain(text: str) -> str:
    """Undoes the kernel's way of writing blanks in paths."""
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def _upwards(root: Path, mount: _Mount, path: str) -> Iterator[Path]:
    """The directories of a group and its parents below the mount point, the nearest first.

    In a container the mount may show only the container's own part of the tree, and the path may be told from
    outside of it, or the other way round: then the mount point itself is the group.
    """
    top = root / mount.point.relative_to("/")
    group = PurePosixPath(path)
    inside = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    steps = [] if ".." in inside.parts else list(inside.parts)
    for end in range(len(steps), -1, -1):
        directory = top.joinpath(*steps[:end])
        if directory.is_dir():
            yield directory


# --- the files of one group ------------------------------------------------------------------------------


def _source(root: Path, path: Path) -> str:
    return f"cgroup:/{path.relative_to(root)}"


def _quota(root: Path, group: Group, notes: Notes) -> Iterator[Bound]:
    """Whole cores of a quota, rounded down, for a job that is promised a core gets all of it; but at least one."""
    path = group.directory / ("cpu.max" if group.version == 2 else "cpu.cfs_quota_us")
    text = notes.text(path)
    if group.version == 1 and text:
        text = f"{text} {notes.text(group.directory / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    if quota in {"", "max", "-1"}:
        return
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        notes.add(str(path), f"not a quota: {text[:40]!r}")
        return
    yield Bound(_source(root, path), max(1, int(quota) // int(period)))


def _memory(root: Path, group: Group, notes: Notes) -> Iterator[Bound]:
    names = ("memory.max", "memory.high") if group.version == 2 else ("memory.limit_in_bytes",)
    for name in names:
        yield from _bytes(root, group.directory / name, notes.text(group.directory / name), notes)
    if group.version == 1:
        yield from _hierarchical(root, group, notes)


def _hierarchical(root: Path, group: Group, notes: Notes) -> Iterator[Bound]:
    """Version 1 also tells the smallest limit of all parents, those that a container cannot see included."""
    path = group.directory / "memory.stat"
    for line in notes.text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == "hierarchical_memory_limit":
            yield from _bytes(root, path, value, notes)


def _bytes(root: Path, path: Path, text: str, notes: Notes) -> Iterator[Bound]:
    if text in {"", "max", "-1"}:
        return
    if not text.isdecimal():
        notes.add(str(path), f"not a size: {text[:40]!r}")
    elif int(text) < UNLIMITED:
        yield Bound(_source(root, path), int(text))


def _cpuset(root: Path, group: Group, notes: Notes) -> Iterator[tuple[str, frozenset[int]]]:
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        path = group.directory / name
        text = notes.text(path)
        if text:
            try:
                yield _source(root, path), core_list(text)
            except ValueError:
                notes.add(str(path), f"not a list of cores: {text[:40]!r}")
            return
