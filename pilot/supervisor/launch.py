"""Becomes the payload: what happens between fork and exec."""

from __future__ import annotations

import errno
import os
import sys
import time

from pilot.supervisor import kernel, procs, record
from pilot.supervisor.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message
    from pilot.supervisor.order import Order


class Origin:
    """Who starts the payload, as its record names them."""

    __slots__ = ("boot_id", "directory", "shim", "shim_since", "supervisor")

    def __init__(self, boot_id: str, supervisor: int) -> None:
        self.directory = -1
        self.boot_id = boot_id
        self.supervisor = supervisor
        self.shim = os.getpid()
        self.shim_since = procs.look(self.shim).started

    def at(self, directory: int) -> Origin:
        """The same, with its record in this open directory."""
        self.directory = directory
        return self


# What a terminal, a batch system or a full pipe sends to everything must not end the one that keeps the records.
IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGXCPU,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


def settle_signals() -> None:
    """The supervisor's own dispositions: these ignored, all others at their default whatever it has inherited."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN if number in IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reset_signals() -> None:
    """Every signal back to its default, none blocked: ignored ones would outlive the exec."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def report_bug() -> None:
    """Writes the exception in flight, if any, to the supervisor's log: `os._exit` would swallow it."""
    kind, value, trace = sys.exc_info()
    if kind is not None and value is not None:
        sys.excepthook(kind, value, trace)
        sys.stderr.flush()


def payload(order: Order, origin: Origin, streams: tuple[int, int], status: int) -> None:
    """Runs in the forked child and never returns; what prevents the exec goes to `status` as `errno text`."""
    try:
        _become(order, origin, streams)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
        os.write(status, f"{number} {_explain(order, error)}".encode("utf-8", "replace"))
    finally:
        report_bug()
        os._exit(127)


def _become(order: Order, origin: Origin, streams: tuple[int, int]) -> None:
    os.setsid()
    reset_signals()
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != origin.shim:
        os._exit(127)  # the shim died before the wish above was heard
    # The record comes before the exec: a pilot that has lost supervisor and shim can still find the session.
    record.write(origin.directory, record.STARTED, _record(order, origin))
    os.chdir(order.cwd)
    stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for fd, source in enumerate((stdin, *streams)):
        os.dup2(source, fd)  # inheritable; every other descriptor of this process closes on exec
    _exec(order)


def _record(order: Order, origin: Origin) -> Message:
    return {
        "id": order.payload,
        "pid": os.getpid(),
        "session": os.getpid(),
        "start_time": procs.look(os.getpid()).started,
        "boot_id": origin.boot_id,
        "shim_pid": origin.shim,
        "shim_start_time": origin.shim_since,
        "supervisor_pid": origin.supervisor,
        "grace": order.grace,
        "mark": order.env.get("PILOT_MARK", ""),
        "started": time.time(),
    }


def _exec(order: Order) -> None:
    """Executes argv, looked up in the payload's own PATH where it names no directory."""
    program = order.argv[0]
    places = [""] if "/" in program else order.env.get("PATH", "/usr/bin:/bin").split(":")
    denied: OSError | None = None
    for place in places:
        path = os.path.join(place, program)
        try:
            os.execve(path, order.argv, order.env)  # noqa: S606 -- no shell is the point
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            # A directory in PATH that this user may not look into hides no program.
            denied = error if os.path.exists(path) else denied
    if denied is not None:
        raise denied
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)


def _explain(order: Order, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    where = error.filename if isinstance(error, OSError) and error.filename else order.argv[0]
    return f"cannot start {where}: {reason}"
