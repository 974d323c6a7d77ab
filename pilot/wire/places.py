"""Where PanDA's files are: an endpoint (RSE) stands for a URL prefix, and the path below it follows Rucio's rule."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pilot.wire.envelope import WireError, shown
from pilot.wire.reading import record, text

SCHEMES = ("file", "https", "davs", "root", "roots")
_READ = ("read_lan", "pr", "read_wan", "r")
_WRITE = ("write_lan", "pw", "write_wan", "w")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@:~-]{0,249}")
_SCOPE = re.compile(r"[A-Za-z0-9._-]{1,255}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The prefixes of one endpoint's URLs, for reading and for writing, without a slash at their end."""

    read: str
    write: str


class NoStorageError(WireError):
    """A place that this pilot has no way to: not the job's fault, but what the site was told to offer."""


Endpoints = Mapping[str, Endpoint]


def checked_name(name: str) -> str:
    """A file's name, fit to be one in a directory and in a URL."""
    if not _NAME.fullmatch(name):
        raise WireError(f"the file name {shown(name)} has other signs than letters, digits and ._+=@:~-")
    return name


def rucio_path(scope: str, name: str) -> str:
    """Rucio's deterministic path, as its own `hash` rule writes it: dots of users' and groups' scopes are slashes."""
    if not _SCOPE.fullmatch(scope) or ".." in scope or scope.startswith("."):
        raise WireError(f"{name}: the scope {shown(scope)} is none")
    digest = hashlib.md5(f"{scope}:{name}".encode(), usedforsecurity=False).hexdigest()
    folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    return f"{folder}/{digest[:2]}/{digest[2:4]}/{checked_name(name)}"


def url_of(prefix: str, scope: str, name: str) -> str:
    """The URL of that file below an endpoint's prefix."""
    return f"{prefix}/{quote(rucio_path(scope, name), safe='/:@+=~')}"


def endpoint_of(endpoints: Endpoints, name: str, of: str) -> Endpoint:
    """The endpoint of that name; raises NoStorageError that says what to configure."""
    found = endpoints.get(name)
    if found is None:
        raise NoStorageError(
            f"{of}: this pilot knows no storage for the endpoint {shown(name)}; name it in panda_storages"
        )
    return found


def plain_endpoints(prefixes: Mapping[str, str]) -> dict[str, Endpoint]:
    """Endpoints as a site's configuration writes them, one prefix for both ways."""
    return {name: Endpoint(url.rstrip("/"), url.rstrip("/")) for name, url in prefixes.items()}


def storages(data: object, schemes: Sequence[str] = SCHEMES) -> dict[str, Endpoint]:
    """Endpoints from a storages document (ddmendpoints.json); those without a usable protocol are left out."""
    found: dict[str, Endpoint] = {}
    for name, raw in record(data, "storages").items():
        one = record(raw, name)
        protocols = one.get("arprotocols")
        if one.get("is_deterministic") is False or protocols is None or text(one, "state") not in ("", "ACTIVE"):
            continue
        known = record(protocols, f"{name}.arprotocols")
        read, write = (_prefix(known, kinds, schemes) for kinds in (_READ, _WRITE))
        if read or write:
            found[name] = Endpoint(read or write, write or read)
    return found


def _prefix(protocols: Mapping[str, object], activities: Sequence[str], schemes: Sequence[str]) -> str:
    for activity in activities:
        listed = protocols.get(activity)
        for each in listed if isinstance(listed, list) else ():
            host, path = _protocol(each)
            scheme, _, server = host.partition("://")
            if scheme in schemes:
                return f"{scheme}://{server.rstrip('/')}/{path.strip('/')}".rstrip("/")
    return ""


def _protocol(each: object) -> tuple[str, str]:
    """Host and path of one protocol, which older documents write as a list."""
    if isinstance(each, list) and len(each) >= 2 and isinstance(each[0], str) and isinstance(each[1], str):
        return each[0], each[1]
    if isinstance(each, Mapping):
        return text(each, "endpoint"), text(each, "path")
    return "", ""
