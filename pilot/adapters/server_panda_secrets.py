"""Credentials that PanDA's server hands out, each into a file that only this user may read.

For whoever sets a pilot up. No payload gets one: a job whose definition asks for `secrets` is declined.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pilot.adapters.server_line import Line
from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Final
from pilot.wire import secrets
from pilot.wire.envelope import Reply, WireError


class Secrets:
    """The credential calls over one line; what they bring is written, 0600 and whole, and not kept."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def proxy(self, into: Path, role: str = "", name: str = "") -> None:
        """An X.509 proxy of that distinguished name, the pilot's own without one."""
        reply = self._ask(secrets.PROXY, secrets.proxy_question(role, name))
        with self._refusing(secrets.PROXY):
            _write(into, secrets.proxy_in(reply).value)

    def key_pair(self, public: str, private: str, folder: Path) -> tuple[Path, Path]:
        """The two keys of those names, in that folder under the same names."""
        reply = self._ask(secrets.KEY_PAIR, {"public_key_name": public, "private_key_name": private})
        places = folder / Path(public).name, folder / Path(private).name
        with self._refusing(secrets.KEY_PAIR):
            for place, secret in zip(places, secrets.key_pair_in(reply), strict=True):
                _write(place, secret.value)
        return places

    def user_secrets(self, names: Sequence[str], into: Path) -> tuple[str, ...]:
        """The caller's own secrets of those names (none named: all) as one JSON object; gives the names found."""
        reply = self._ask(secrets.USER_SECRETS, {"keys": list(names)} if names else {})
        with self._refusing(secrets.USER_SECRETS):
            found = secrets.user_secrets_in(reply)
        _write(into, json.dumps({name: each.value for name, each in found.items()}))
        return tuple(found)

    def _ask(self, path: str, arguments: dict[str, object]) -> Reply:
        return self._line.call("GET", path, arguments)

    @contextlib.contextmanager
    def _refusing(self, path: str) -> Iterator[None]:
        try:
            yield
        except WireError as problem:
            raise Final(Code.CREDENTIAL_REFUSED, f"{self._line.origin}{path}: {problem}") from None


def _write(path: Path, secret: str) -> None:
    """Whole or not at all, and never readable by others in between."""
    try:
        fd, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 from the start
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as stream:
                stream.write(secret)
            with effect("server.secret"):
                os.replace(part, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
    except OSError as error:
        raise Final(Code.CREDENTIAL_REFUSED, f"{path}: cannot be written: {error.strerror}") from None
