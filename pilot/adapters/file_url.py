"""file:// URLs: paths of this machine, written so that no reader takes them for anything else."""

import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from pilot.model.faults import Code
from pilot.ports import Final

_PREFIX = "file://"
_OURSELVES = ("", "localhost")


def path_of(url: str) -> Path:
    """The absolute path that a file:// URL means; percent signs decoded, other machines refused."""
    host, slash, rest = url.removeprefix(_PREFIX).partition("/")
    if not url.startswith(_PREFIX) or not slash:
        raise _refused(url, "write file:///absolute/path")
    if host not in _OURSELVES:
        raise _refused(url, f"{host!r} is another machine: write file:///absolute/path")
    if "?" in rest or "#" in rest:
        raise _refused(url, "write ? as %3F and # as %23")
    return _checked(url, "/" + os.fsdecode(unquote_to_bytes(rest)))


def url_of(path: Path) -> str:
    """The URL of an absolute path."""
    return _PREFIX + quote(os.fsencode(path))


def _checked(url: str, path: str) -> Path:
    if "\0" in path or path.endswith("/") or ".." in path.split("/"):
        raise _refused(url, "a file's path has no NUL byte, no .. and no / at its end")
    return Path(path)


def _refused(url: str, why: str) -> Final:
    return Final(Code.JOB_INVALID, f"{url!r} is no file URL: {why}")
