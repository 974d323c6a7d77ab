"""The node's processor: model, micro-architecture level, cores and NUMA nodes."""

import re
from pathlib import Path

from pilot.adapters.probe_host.files import Notes, core_list

# Each level needs the flags of the ones before it as well (the x86-64 psABI's levels, in the kernel's names).
_X86_LEVELS = (
    ("x86_64-v2", frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})),
    ("x86_64-v3", frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"})),
    ("x86_64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
)
# What each version of the architecture made mandatory and the kernel shows.
_ARM_LEVELS = (
    ("armv8.1-a", frozenset({"atomics", "asimdrdm", "crc32"})),
    ("armv8.2-a", frozenset({"dcpop"})),
    ("armv8.3-a", frozenset({"jscvt", "fcma", "lrcpc"})),
    ("armv8.4-a", frozenset({"dit", "uscat", "ilrcpc"})),
    ("armv9.0-a", frozenset({"sve2"})),
)
_LEVELS = {"x86_64": ("x86_64-v1", _X86_LEVELS), "aarch64": ("armv8-a", _ARM_LEVELS)}


def microarch(arch: str, cpuinfo: str) -> str:
    """The highest level whose flags the processor has; "" for architectures without levels."""
    if arch not in _LEVELS:
        return ""
    level, levels = _LEVELS[arch]
    flags = frozenset(_field(cpuinfo, "flags|Features").split())
    for name, needed in levels:
        if not needed <= flags:
            break
        level = name
    return level


def model(cpuinfo: str) -> str:
    """What the processor calls itself; on ARM, its maker's and part's numbers."""
    name = _field(cpuinfo, "model name|cpu model|cpu")
    if name:
        return " ".join(name.split())
    maker, part = _field(cpuinfo, "CPU implementer"), _field(cpuinfo, "CPU part")
    return f"implementer {maker} part {part}" if maker else ""


def _field(cpuinfo: str, names: str) -> str:
    match = re.search(rf"^(?:{names})[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def node_cores(root: Path, notes: Notes) -> frozenset[int]:
    """The cores that are switched on."""
    text = notes.text(root / "sys/devices/system/cpu/online") or notes.text(root / "sys/devices/system/cpu/present")
    return _cores(root, text, notes) or frozenset({0})


def numa(root: Path, notes: Notes) -> tuple[tuple[int, ...], ...]:
    """The cores of each NUMA node, in the order of the nodes; nodes without cores are left out."""
    base = root / "sys/devices/system/node"
    lists = [notes.text(path / "cpulist") for path in sorted(base.glob("node[0-9]*"), key=_number)]
    return tuple(tuple(sorted(_cores(base, text, notes))) for text in lists if text)


def _number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def _cores(where: Path, text: str, notes: Notes) -> frozenset[int]:
    try:
        return core_list(text)
    except ValueError:
        notes.add(str(where), f"not a list of cores: {text[:40]!r}")
        return frozenset()


def affinity(root: Path, notes: Notes) -> frozenset[int]:
    """The cores that this process may run on."""
    match = re.search(r"^Cpus_allowed_list:\s*(\S+)", notes.text(root / "proc/self/status"), re.MULTILINE)
    return _cores(root / "proc/self/status", match[1] if match else "", notes)


def memory_bytes(root: Path, notes: Notes) -> int:
    """The node's memory."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", notes.text(root / "proc/meminfo"), re.MULTILINE)
    if match is None:
        notes.add(str(root / "proc/meminfo"), "tells no MemTotal")
        return 0
    return int(match[1]) * 1024
