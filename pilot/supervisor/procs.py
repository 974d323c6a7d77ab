"""Processes as /proc shows them, and signals that cannot hit a stranger."""

from __future__ import annotations

import os

from pilot.supervisor.lean import Quietly, signal

_PAGE_BYTES = 4096


class Process:
    """One process at one moment; `started` (clock ticks since boot) tells it from a later one of the same number."""

    __slots__ = ("group", "parent", "pid", "session", "started", "state")

    def __init__(self, pid: int, stat: bytes) -> None:
        # The name in brackets may hold anything, a bracket or a newline too: cut after the last one.
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.state = fields[0].decode("ascii")
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.started = int(fields[19])


class Gone(ProcessLookupError):
    """There is no such process any more."""


def look(pid: int) -> Process:
    """The process of this number; Gone if there is none."""
    try:
        return Process(pid, read(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError, ValueError) as error:
        raise Gone(f"no process {pid}") from error


def read(path: str) -> bytes:
    """A small file of /proc in one read (`open` asks the kernel five things more, which a thousand looks feel)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _PAGE_BYTES)
    finally:
        os.close(fd)


def table() -> list[Process]:
    """Every process that can be seen."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with Quietly(Gone):
                found.append(look(int(name)))
    return found


def descendants(root: int, processes: list[Process], spare: frozenset[int] = frozenset()) -> list[Process]:
    """The processes below `root`, without the subtrees in `spare`."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    below: list[Process] = []
    heads = [root]
    while heads:
        fresh = [child for child in children.pop(heads.pop(), []) if child.pid not in spare]
        below.extend(fresh)
        heads.extend(child.pid for child in fresh)
    return below


def alive(pid: int, started: int) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    try:
        process = look(pid)
    except Gone:
        return False
    return process.started == started and process.state not in "ZX"


def send(process: Process, number: int) -> None:
    """Signals this very process, or nobody: the number may have passed to another meanwhile."""
    with Quietly(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            _send_by_number(process, number)
            return
        try:
            handle = os.pidfd_open(process.pid)
        except OSError as error:
            if isinstance(error, ProcessLookupError):
                return
            _send_by_number(process, number)  # a kernel older than 5.3
            return
        try:
            # Once the handle is open the number cannot pass on unseen, so the check holds for the signal.
            if look(process.pid).started == process.started:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def send_group(process: Process, number: int) -> None:
    """Signals the whole group of this very process in one step that no fork can outrun.

    A group's number cannot pass on while a member lives, and this member is looked at just before.
    """
    with Quietly(ProcessLookupError, PermissionError):
        now = look(process.pid)
        if now.started == process.started and now.group not in (0, 1, os.getpgrp()):
            os.killpg(now.group, number)


def _send_by_number(process: Process, number: int) -> None:
    if look(process.pid).started == process.started:
        os.kill(process.pid, number)


def boot_id() -> str:
    """The name of this boot of the node; process numbers and start times mean nothing in another."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
