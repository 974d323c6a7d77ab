"""A job's log as the service can read it: a file that its attempt stored under the queue's own output folder.

The place of a log comes from a pilot's report. It is believed only under the job's own folder of the queue's
destination: the service reads no other file for anybody.
"""

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pilot.model.faults import Code
from pilot.model.queue import JobState
from pilot.ports import Final, Queue

PIECE_BYTES = 512 << 10  # of control characters each is six in JSON, and a reply is 4 MiB at most
SHARE = "the pilot stored it on its own node's: the queue's --output has to be a folder that both of them share"
WHICH = ("stdout", "stderr", "pilot")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a log: its text, where to read on, and whether more may come."""

    text: str
    offset: int
    live: bool


@dataclass(frozen=True, slots=True)
class Where:
    """Which log, from which byte on."""

    which: str
    offset: int


def checked(which: str, offset: int) -> Where:
    """What is to be read; raises in one line."""
    if which not in WHICH or not 0 <= offset < 1 << 62:
        raise Final(Code.SERVER_REFUSED, f"log: which is one of {', '.join(WHICH)}, offset a number of bytes")
    return Where(which, offset)


def piece(queue: Queue, job: str, where: Where) -> Piece:
    """What that log holds from there on, as far as this service can read it."""
    view = queue.show(job)
    urls = [getattr(each.logs, where.which) for each in view.reports]
    url = next((each for each in reversed(urls) if each), "")
    live = view.job.state is not JobState.DONE
    if not url:
        return Piece("", where.offset, live)
    data = _read(_own(url, queue.settings().destination, view.job.job_id), where.offset)
    whole = data if len(data) < PIECE_BYTES else data[: data.rfind(b"\n") + 1] or data
    return Piece(whole.decode(errors="replace"), where.offset + len(whole), live)


def _own(url: str, destination: str, job_id: str) -> Path:
    """The file, if it is one that this very job stored; links are followed before it is looked at."""
    folder, file = urlsplit(destination), urlsplit(url)
    if folder.scheme != "file" or file.scheme != "file":
        advice = "read it there with your own tools"
        raise Final(Code.STORAGE_UNREACHABLE, f"the log is at {url[:200]}, where the service cannot read it; {advice}")
    home = Path(unquote(folder.path)).resolve() / quote(job_id, safe="")
    path = Path(unquote(file.path)).resolve()
    if not path.is_relative_to(home):
        raise Final(Code.STORAGE_DENIED, f"the log is not in the job's own folder {home}")
    return path


def _read(path: Path, offset: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        line = f"{path} on the disk of the service's machine, {socket.gethostname()}: {problem.strerror}"
        raise Final(Code.STORAGE_UNREACHABLE, f"{line}; {SHARE}") from problem
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Final(Code.STORAGE_DENIED, f"{path}: no regular file")
        return os.pread(descriptor, PIECE_BYTES, offset)
    except OSError as problem:
        raise Final(Code.STORAGE_UNREACHABLE, f"{path}: {problem.strerror}") from problem
    finally:
        os.close(descriptor)
