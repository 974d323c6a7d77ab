"""Starts the payload: what its process is given, and what is written of it."""

from __future__ import annotations

import errno
import os
import sys
import time

from pilot.supervisor import procs
from pilot.supervisor.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message
    from pilot.supervisor.order import Order


class Origin:
    """Who starts the payload, as its record names them."""

    __slots__ = ("boot_id", "directory", "nothing", "shim", "shim_since", "supervisor")

    def __init__(self, boot_id: str, supervisor: int) -> None:
        self.directory = -1
        self.boot_id = boot_id
        self.supervisor = supervisor
        self.nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)  # every payload's input
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


def report_bug() -> None:
    """Writes the exception in flight, if any, to the supervisor's log: `os._exit` would swallow it."""
    kind, value, trace = sys.exc_info()
    if kind is not None and value is not None:
        sys.excepthook(kind, value, trace)
        sys.stderr.flush()


def announcement(order: Order, origin: Origin) -> Message:
    """The record of the start, but for the process itself.

    It is written before the payload starts, with the mark that the payload will bear: a pilot that has lost supervisor
    and shim can find what was begun, whenever they died.
    """
    return {
        "id": order.payload,
        "boot_id": origin.boot_id,
        "shim_pid": origin.shim,
        "shim_start_time": origin.shim_since,
        "supervisor_pid": origin.supervisor,
        "grace": order.grace,
        "mark": order.env.get("PILOT_MARK", ""),
        "started": time.time(),
    }


def payload(order: Order, origin: Origin, streams: tuple[int, int]) -> int:
    """Starts the payload as the leader of a session of its own; its number. OSError says what prevents the exec.

    By posix_spawn, which shares the memory up to the exec: a fork would copy page after page for each payload.
    """
    os.chdir(order.cwd)
    try:
        return _spawn(order, [(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate((origin.nothing, *streams))])
    finally:
        os.chdir("/")


def _spawn(order: Order, actions: list[tuple[int, int, int]]) -> int:
    """Executes argv, looked up in the payload's own PATH where it names no directory; other descriptors close."""
    program = order.argv[0]
    places = [""] if "/" in program else order.env.get("PATH", "/usr/bin:/bin").split(":")
    denied: OSError | None = None
    for place in places:
        path = os.path.join(place, program)
        try:
            return os.posix_spawn(  # ignored signals would outlive the exec
                path, order.argv, order.env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=IGNORED
            )
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            # A directory in PATH that this user may not look into hides no program.
            denied = error if os.path.exists(path) else denied
    if denied is not None:
        raise denied
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
