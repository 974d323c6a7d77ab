"""What `pilot login` leaves: a token in a file for every command, and beside it what renews it; 0600, whole or not.

Of several processes that find the token old one renews it: an issuer may take a renewal key only once.
"""

import contextlib
import fcntl
import json
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.credentials_device import Client, Issuer, Tokens
from pilot.adapters.secret_file import read_secret
from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.model.plain import PlainError, from_plain, to_plain
from pilot.ports import Final

LOGIN = ".login"  # behind the token's own name


@dataclass(frozen=True, slots=True)
class Kept:
    """One login: as whom it was, the key that renews it, when half of the token's life is over (UTC epoch seconds)."""

    client: Client
    refresh: str = ""
    renew_at: float = 0.0
    ends: float = 0.0


def keep(path: Path, client: Client, tokens: Tokens, now: float) -> Kept:
    """Writes both files; the key first, since it can bring the token back and not the other way round."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    life = tokens.seconds
    login = Kept(client, tokens.refresh, now + life / 2, now + life) if life else Kept(client, tokens.refresh)
    _write(path.with_name(path.name + LOGIN), json.dumps(to_plain(login)))
    _write(path, tokens.access)
    return login


def kept(path: Path) -> Kept | None:
    """The login behind that token; None where there was none."""
    beside = path.with_name(path.name + LOGIN)
    if not beside.exists():
        return None
    data, _ = read_secret(beside, "login")
    try:
        return from_plain(Kept, json.loads(data))
    except (PlainError, ValueError, RecursionError):
        raise Final(Code.CREDENTIAL_REFUSED, f"login {beside}: cannot be read; run pilot login again") from None


def renewed(path: Path, tls: Callable[[], ssl.SSLContext], wall: Callable[[], float] = time.time) -> Kept:
    """The login with a token that is less than half through its life, renewed where it has a key to that."""
    with _alone(path):
        login = kept(path)
        if login is None:
            raise Final(Code.CREDENTIAL_EXPIRED, f"token {path}: nothing here renews it; run pilot login")
        if wall() < login.renew_at:
            return login  # another process was first
        if not login.refresh:
            raise Final(Code.CREDENTIAL_EXPIRED, f"token {path}: its issuer gave no way to renew it; run pilot login")
        return keep(path, login.client, Issuer(login.client, tls()).renew(login.refresh), wall())


@dataclass(frozen=True, slots=True)
class KeptRenewal:
    """Asks for a new token as a token in a file does."""

    path: Path
    tls: Callable[[], ssl.SSLContext]

    def __call__(self) -> str:
        """The new token."""
        renewed(self.path, self.tls)
        return read_secret(self.path, "token")[0].decode("ascii", "replace").strip()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """The whole file or none, and nobody else's to read from its first moment on."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with open(descriptor, "w", encoding="ascii") as stream:
            stream.write(text + "\n")
            stream.flush()
            with effect("login.keep"):
                os.fsync(stream.fileno())
                os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
