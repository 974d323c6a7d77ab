"""The two small files that the shim leaves beside a payload, each written whole or not at all."""

from __future__ import annotations

import os

from pilot.supervisor.lean import Quietly, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message

STARTED = "started.json"
EXIT = "exit.json"


def write(directory: int, name: str, message: Message) -> None:
    """Writes `name` in the open directory (by descriptor: a renamed sandbox or changed cwd is no matter).

    No sync: the file must outlive processes, not the node, and with the node the payload is gone too.
    """
    part = f".{name}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(fd, dumps(message).encode("ascii") + b"\n")
    finally:
        os.close(fd)
    os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)


# Room for the main process's number and start time, which are known only once it has been forked.
_BLANKS = '{"pid":%12d,"session":%12d,"start_time":%20d,'


def announce(directory: int, message: Message) -> int:
    """Writes the record of a start whose process is yet to come, number 0; gives the descriptor for `fill_in`."""
    part = f".{STARTED}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(fd, (_BLANKS % (0, 0, 0) + dumps(message)[1:] + "\n").encode("ascii"))
        os.rename(part, STARTED, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.close(fd)
        raise
    return fd


def fill_in(fd: int, pid: int, since: int) -> None:
    """Puts the process into its record, which then has nothing more to come."""
    with Quietly(OSError):  # a disk that refuses even what needs no room: the payload's mark still tells it
        os.pwrite(fd, (_BLANKS % (pid, pid, since)).encode("ascii"), 0)
    os.close(fd)


def read(directory: str, name: str) -> Message:
    """Reads a record; FileNotFoundError if there is none, ValueError if it is none of ours."""
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        value = loads(file.read())
    if not isinstance(value, dict):
        raise ValueError(f"{directory}/{name}: not a record of a payload")
    return value


def decode_status(status: int) -> tuple[int | None, int | None]:
    """A wait status as exit code and signal, one of which is None."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def write_at(path: str, name: str, message: Message) -> None:
    """Writes `name` in the directory of this path."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write(directory, name, message)
    finally:
        os.close(directory)
