"""find_canary.py REVERSED [PLACE ...]: looks for a secret wherever a payload can look.

Prints each place and exits 1 if it found any. Environment, command lines, open files, memory maps and working
directories of every visible process, every readable file below the places that hold secrets, shared memory, abstract
sockets; or only below the PLACEs given. The secret is given reversed, so that the command line itself is no hit.
"""

import os
import stat
import sys
from collections.abc import Iterator

PLACES = (
    "/srv",
    "/tmp",
    "/var/tmp",
    "/run",
    "/dev/shm",
    "/home",
    "/root",
    "/etc",
    "/mnt",
    "/media",
    "/opt",
    "/var/lib",
)
MAX_FILE = 1 << 22
SKIPPED = ("/proc", "/sys")


def main() -> int:
    canary = sys.argv[1][::-1].encode()
    found = sorted({place for place, content in everything() if canary in content})
    for place in found:
        print(f"found in {place}")
    print(f"{len(found)} places")
    return 1 if found else 0


def everything() -> Iterator["tuple[str, bytes]"]:
    if sys.argv[2:]:
        for place in sys.argv[2:]:
            yield from below(place)
        return
    for pid in filter(str.isdigit, os.listdir("/proc")):
        yield from of_process(f"/proc/{pid}")
    for place in (*PLACES, *mounts()):
        yield from below(place)
    for name in ("/proc/net/unix", "/proc/self/mountinfo", "/proc/keys"):
        yield name, content(name)


def of_process(directory: str) -> Iterator["tuple[str, bytes]"]:
    for name in ("environ", "cmdline", "maps"):
        yield f"{directory}/{name}", content(f"{directory}/{name}")
    for name in ("cwd", "exe", "root"):
        yield f"{directory}/{name}", target(f"{directory}/{name}")
    if directory != f"/proc/{os.getpid()}":
        for descriptor in entries(f"{directory}/fd"):
            yield descriptor, target(descriptor) + content(descriptor)
        yield from below(f"{directory}/cwd")


def below(place: str) -> Iterator["tuple[str, bytes]"]:
    for directory, _, names in os.walk(place):
        if directory.startswith(SKIPPED) and not place.startswith("/proc"):
            continue
        for name in names:
            path = os.path.join(directory, name)
            yield path, os.fsencode(path) + content(path)


def mounts() -> "list[str]":
    lines = content("/proc/self/mountinfo").decode(errors="replace").splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in points if point != "/" and not point.startswith(SKIPPED)]


def entries(directory: str) -> "list[str]":
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory)]
    except OSError:
        return []


def target(path: str) -> bytes:
    try:
        return os.fsencode(os.readlink(path))
    except OSError:
        return b""


def content(path: str) -> bytes:
    """The beginning of a file; nothing of what is no file (a read of a FIFO would wait for ever)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, MAX_FILE)
        finally:
            os.close(descriptor)
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main())
