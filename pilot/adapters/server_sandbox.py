"""Users' sandboxes as an input: archives in the cache of a PanDA server, over verified HTTPS and without a credential.

A job names the server itself; it is believed only where the site trusts that host, for a pilot stands inside a site's
network, and a job must not make it look around there.
"""

import hashlib
import zlib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_pool import Asked
from pilot.model.faults import Code
from pilot.model.files import FileRecord
from pilot.ports import Abandon, Abandoned, Final, Passing, PortError

CACHE = "/cache/"
PATIENCE_SECONDS = 300.0
_STAGED_MODE = 0o444  # the payload sees its inputs read-only
_MISSING = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


class SandboxStorage:
    """`https` URLs below /cache/ of the hosts that are trusted with it; nothing is ever stored there."""

    def __init__(self, hosts: frozenset[str], line_to: Callable[[str], HttpLine]) -> None:
        self._hosts = hosts
        self._line_to = line_to

    def fetch(self, url: str, target: Path, abandon: Abandon) -> FileRecord:
        """The archive, whole in memory for a moment: the line's cap is the largest that is taken."""
        origin, path = self._trusted(url)
        line = self._line_to(origin)
        try:
            answer = line.answer(Asked("GET", path, seconds=PATIENCE_SECONDS, given_up=abandon))
        except PortError as problem:
            if abandon():
                raise Abandoned(Code.JOB_CANCELLED, f"{url}: given up") from None
            raise Passing(Code.STORAGE_UNREACHABLE, problem.fault.detail) from None
        finally:
            line.close()
        if answer.status != HTTPStatus.OK:
            raise _no(url, answer.status)
        if abandon():
            raise Abandoned(Code.JOB_CANCELLED, f"{url}: given up")
        return _written(answer.body, url, target)

    def store(self, source: Path, url: str, abandon: Abandon) -> FileRecord:
        """Refuses: a server's cache takes nothing from jobs."""
        raise Final(Code.STORAGE_DENIED, f"{url}: outputs are not stored over https by this pilot")

    def _trusted(self, url: str) -> tuple[str, str]:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError as error:
            raise Final(Code.JOB_INVALID, f"{url[:200]!r} is no URL: {error}") from None
        if parts.scheme != "https" or not parts.path.startswith(CACHE) or parts.query or "@" in parts.netloc:
            raise Final(Code.JOB_INVALID, f"{url[:200]}: over https only https://HOST:PORT{CACHE}NAME is fetched")
        if host not in self._hosts:
            raise Final(Code.STORAGE_DENIED, f"{url[:200]}: the host {host} is not trusted; name it in panda_sources")
        return f"https://{parts.netloc}", parts.path


def _no(url: str, status: int) -> PortError:
    if status in _MISSING:
        return Final(Code.STAGE_IN_MISSING, f"{url}: there is no such file (answered {status})")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Final(Code.STORAGE_DENIED, f"{url}: refused (answered {status})")
    return Passing(Code.STORAGE_UNREACHABLE, f"{url}: answered {status}")


def _written(body: bytes, url: str, target: Path) -> FileRecord:
    try:
        target.write_bytes(body)
        target.chmod(_STAGED_MODE)
    except OSError as error:
        raise Passing(Code.SCRATCH_FULL, f"{target}: {error.strerror}") from error
    adler32 = f"{zlib.adler32(body):08x}"
    return FileRecord(target.name, url, len(body), adler32, hashlib.sha256(body).hexdigest())
