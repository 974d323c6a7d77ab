"""A warm process in which pilots are born by fork: a start costs 20 ms instead of 400, and is the real command.

Spoken to in JSON lines: `{"id", "argv", "environment", "directory", "out", "err", "armed", "census", "mistake"}` is
answered by `{"id", "pid"}` and, when that pilot has ended, by `{"id", "code", "signal"}`.
"""

import gc
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tests.drills import mistakes
from tests.drills.arms import Armed, Census

Request = dict[str, Any]


def serve() -> None:
    """Until stdin ends; then every pilot is killed."""
    _preload()
    nursery = _Nursery()
    _say({"ready": os.getpid()})
    nursery.run()


def _preload() -> None:
    import classad2  # noqa: F401
    import structlog  # noqa: F401

    import pilot.adapters.images_cache
    import pilot.adapters.runtime_apptainer
    import pilot.assemble
    import pilot.cli.main
    import pilot.cli.run
    import pilot.cli.running  # noqa: F401

    assert threading.active_count() == 1, "a process with threads must not fork"
    gc.collect()
    gc.freeze()


class _Nursery:
    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._children: dict[int, tuple[int, str]] = {}  # by pid descriptor: pid and id
        self._heard = b""

    def run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != 0:
                    self._ended(descriptor)
                elif not self._hear():
                    return self._close()

    def _hear(self) -> bool:
        data = os.read(0, 1 << 20)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._bear(json.loads(line))
        return bool(data)

    def _bear(self, request: Request) -> None:
        pid = os.fork()
        if pid == 0:
            _live(request)
        descriptor = os.pidfd_open(pid)
        self._children[descriptor] = (pid, request["id"])
        self._poll.register(descriptor, select.POLLIN)
        _say({"id": request["id"], "pid": pid})

    def _ended(self, descriptor: int) -> None:
        pid, identity = self._children.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        _say({"id": identity, "code": None if killed else os.WEXITSTATUS(status), "signal": killed})

    def _close(self) -> None:
        for pid, _ in self._children.values():
            os.kill(pid, signal.SIGKILL)


def _say(message: Request) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _live(request: Request) -> NoReturn:
    """In the child: the command `pilot`, from its first line to its last."""
    code = 70
    try:
        _settle(request)
        from pilot.__main__ import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001  the end of a process: all that is wrong is told
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _settle(request: Request) -> None:
    os.setsid()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            _quietly(os.close, int(name))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, path, mode in ((0, "/dev/null", os.O_RDONLY), (1, request["out"], flags), (2, request["err"], flags)):
        source = os.open(path, mode, 0o600)
        os.dup2(source, target)
        os.close(source)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["pilot", *request["argv"]]
    _arm(request)


def _arm(request: Request) -> None:
    from pilot import failpoints

    if request.get("armed"):
        failpoints._armed = Armed(request["armed"], request["state"])
    elif request.get("census"):
        failpoints._armed = Census(Path(request["census"]))
    if request.get("mistake"):
        mistakes.make(request["mistake"])


def _quietly(action: Callable[[int], None], descriptor: int) -> None:
    try:
        action(descriptor)
    except OSError:
        return


if __name__ == "__main__":
    serve()
