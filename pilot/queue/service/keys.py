"""The service's folder of keys: a private certificate authority, the server's certificate, the key that signs tokens.

Everything secret in it is readable by its owner alone, and is refused where it is not.
"""

import hashlib
import os
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service import certificates, signing
from pilot.queue.service.call import Role
from pilot.queue.service.signing import OwnTokens

SECRET, PUBLIC, FOLDER = 0o600, 0o644, 0o700
TOKEN_SECONDS = 30 * 86400.0  # of the tokens that setup makes; `pilot queue token` makes others
LARGEST_SECRET = 65_536


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """Where the keys of one served queue lie."""

    path: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate: what pilots and users need in order to trust the server."""
        return self.path / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The authority's key: needed for new server certificates only."""
        return self.path / "ca-key.pem"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.path / "server.pem"

    @property
    def certificate_key(self) -> Path:
        """The server's key."""
        return self.path / "server-key.pem"

    @property
    def token_key(self) -> Path:
        """What signs the queue's tokens."""
        return self.path / "token-key.pem"

    def token(self, role: Role, user: str) -> Path:
        """Where a token that is made here is put."""
        return self.path / f"{role.value}-{_file_name(user)}.token"


def set_up(folder: KeyFolder, names: certificates.Names, user: str) -> list[Path]:
    """Makes what is missing, and the server's certificate anew; gives the token files of the first pilot and user.

    The names of a certificate that is there are kept: whoever reaches the server by one of them still does.
    """
    folder.path.mkdir(mode=FOLDER, parents=True, exist_ok=True)
    if not folder.ca.exists():
        authority = certificates.new_authority()
        _put(folder.ca_key, authority.key, SECRET)
        _put(folder.ca, authority.certificate, PUBLIC)
    authority = certificates.Pair(folder.ca.read_bytes(), secret(folder.ca_key))
    server = certificates.server_certificate(authority, _with_those_of_before(folder, names))
    _put(folder.certificate_key, server.key, SECRET)
    _put(folder.certificate, server.certificate, PUBLIC)
    if not folder.token_key.exists():
        _put(folder.token_key, signing.new_key(), SECRET)
    wanted = ((Role.PILOT, "pilot"), (Role.SUBMITTER, user))
    return [write_token(folder, role, name, TOKEN_SECONDS, folder.token(role, name)) for role, name in wanted]


def _with_those_of_before(folder: KeyFolder, names: certificates.Names) -> certificates.Names:
    if not folder.certificate.exists():
        return names
    try:
        before = certificates.names_in(folder.certificate.read_bytes())
    except Final as problem:
        advice = "remove it, run --setup again, and give each --name"
        raise Final(Code.SERVER_REFUSED, f"{folder.certificate}: {problem.fault.detail}; {advice}") from problem
    return certificates.sorted_names((*names.hosts, *before.hosts, *names.addresses, *before.addresses))


def own_tokens(folder: KeyFolder) -> OwnTokens:
    """The queue's own tokens, by the key in the folder."""
    key = signing.read_key(secret(folder.token_key), str(folder.token_key), time.time)
    return OwnTokens(key, f"pilot-queue:{key.name}")


def write_token(folder: KeyFolder, role: Role, user: str, seconds: float, path: Path) -> Path:
    """Mints a token into a file of its own."""
    _put(path, own_tokens(folder).mint(role, user, seconds).encode() + b"\n", SECRET)
    return path


def secret(path: Path) -> bytes:
    """What that file holds, if it is a file that nobody else can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Final(Code.SERVER_REFUSED, f"{path}: no such key; make the keys: pilot queue serve --setup") from None
    except OSError as problem:
        raise Final(Code.SERVER_REFUSED, f"{path}: {problem.strerror}") from problem
    with open(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise Final(Code.SERVER_REFUSED, f"{path}: others may read or write it; chmod 600 {path}")
        return stream.read(LARGEST_SECRET)


def _put(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole or not at all; an older one of that name is replaced."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as stream:
            stream.write(data)
        with effect("serve.key"):
            os.replace(fresh, path)
    except OSError as problem:
        fresh.unlink(missing_ok=True)
        raise Final(Code.STORAGE_DENIED, f"{path}: {problem.strerror}") from problem


def _file_name(user: str) -> str:
    """A file's name for that user; where signs are replaced, with a digest: no two users have the same."""
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in user)
    plain = plain[:64].lstrip(".")
    return plain if plain == user else f"{plain or '_'}-{hashlib.sha256(user.encode()).hexdigest()[:8]}"
