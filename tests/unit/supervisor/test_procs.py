"""Processes by number and start time: who is below whom, and no signal to a stranger."""

import errno
import os
import signal
import subprocess

import pytest

from pilot.supervisor import procs
from pilot.supervisor.procs import Process


def stat(pid: int, parent: int, name: str = "x") -> bytes:
    return f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 {'0 ' * 13}777 0 0".encode()


@pytest.mark.parametrize("name", ["x", "a b", "a) S 1 (b", ")", "((", "a\nb", ""])
def test_a_name_may_hold_anything(name: str) -> None:
    process = Process(12, stat(12, 7, name))
    assert (process.state, process.parent, process.group, process.session) == ("S", 7, 12, 12)
    assert process.started == 777


def test_descendants_without_the_spared() -> None:
    tree = {2: 1, 3: 2, 4: 3, 5: 2, 6: 5, 7: 1, 8: 99}
    table = [Process(pid, stat(pid, parent)) for pid, parent in tree.items()]
    assert {p.pid for p in procs.descendants(2, table)} == {3, 4, 5, 6}
    assert {p.pid for p in procs.descendants(2, table, frozenset({5}))} == {3, 4}
    assert procs.descendants(4, table) == []


def test_this_process_is_seen_as_it_is() -> None:
    me = procs.look(os.getpid())
    assert (me.parent, me.group, me.session) == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert procs.alive(me.pid, me.started)
    assert not procs.alive(me.pid, me.started + 1)
    assert me.pid in {p.pid for p in procs.table()}


def test_only_the_very_process_is_signalled() -> None:
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as child:
        known = procs.look(child.pid)
        known.started -= 1
        procs.send(known, signal.SIGKILL)
        procs.send_group(known, signal.SIGKILL)
        assert child.poll() is None
        known.started += 1
        procs.send(known, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    procs.send(known, signal.SIGKILL)  # it is gone: no error, no effect
    procs.send_group(known, signal.SIGKILL)
    with pytest.raises(procs.Gone):
        procs.look(child.pid)


def test_a_kernel_without_process_handles_is_served_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as child:
        known = procs.look(child.pid)
        known.started -= 1
        procs.send(known, signal.SIGKILL)
        assert child.poll() is None
        known.started += 1
        procs.send(known, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL


def test_ones_own_group_is_never_signalled() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        procs.send_group(procs.look(child.pid), signal.SIGKILL)
        assert child.poll() is None
        child.kill()
