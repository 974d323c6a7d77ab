"""The composition root of `pilot queue serve`: file, keys, doorkeeper, TLS, application, process."""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pilot.assemble.queue import matcher, queue_path
from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service import certificates, listening, signing
from pilot.queue.service.app import build_app
from pilot.queue.service.call import Role
from pilot.queue.service.face import Face, Login, Shown
from pilot.queue.service.identity import Doorkeeper
from pilot.queue.service.issuer import IssuerTokens, Trust
from pilot.queue.service.keys import KeyFolder, own_tokens, secret, set_up, write_token
from pilot.queue.service.meter import Meter
from pilot.queue.service.metered import Metered
from pilot.queue.service.running import Running, Wiring, make_room
from pilot.queue.service.state import Service, Setting
from pilot.queue.service.storage_tokens import StorageKey

TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer that the site trusts, as the command line gives it; `groups` are ROLE=GROUP."""

    url: str
    audience: str
    groups: tuple[str, ...] = ()
    user_claim: str = "sub"
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class StorageAt:
    """A storage that knows the site's key: tokens for its output folder are minted for each attempt."""

    key: Path
    issuer: str
    audience: str
    base: str


@dataclass(frozen=True, slots=True)
class Serving:
    """What is to be served, where, and to whom; `certificate` and `key` in place of those that setup made."""

    url: str
    keys: Path
    listen: str
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    issuer: Issuer | None = None
    storage: StorageAt | None = None
    open_board: bool = False
    login_client: str = "ml-grid-pilot"


def default_keys(url: str) -> Path:
    """The folder of keys beside a queue file."""
    path = queue_path(url).absolute()
    return path.with_name(f"{path.stem}-keys")


def set_up_keys(keys: Path, names: tuple[str, ...], user: str) -> tuple[Path, list[Path]]:
    """Makes the authority, the server's certificate and the first tokens; says where."""
    folder = KeyFolder(keys)
    return folder.ca, set_up(folder, certificates.names_of_this_host(names), user)


def mint(keys: Path, role: str, user: str, seconds: float, out: Path | None) -> Path:
    """A token in a file of its own; says where."""
    folder = KeyFolder(keys)
    if not user.isprintable() or not 0 < len(user) <= signing.NAME_LETTERS:
        raise Final(Code.SERVER_REFUSED, f"--user {user!r}: a name of at most {signing.NAME_LETTERS} letters")
    return write_token(folder, Role(role), user, seconds, out or folder.token(Role(role), user))


def serve(serving: Serving, level: str, say: Callable[[str], None]) -> int:
    """Serves until told to end; gives the signal that ended it, 0 where none did."""
    _log_to_stderr(level)
    place = listening.place_of(serving.listen)
    if serving.plain and not place.is_loopback:
        raise Final(Code.SERVER_REFUSED, f"--insecure-loopback: {serving.listen} can be reached from outside")
    door, tls = _door(serving), _tls(serving)
    service, face = _service(serving, door)
    sockets = listening.open_sockets(place)
    make_room()
    wiring = Wiring(service.drain, lambda: _reload(serving, door, tls), lambda: say(_where(serving, sockets)))
    running = Running(build_app(service, face=face), tls, wiring)
    running.run(sockets)
    return running.ended_by


def _service(serving: Serving, door: Doorkeeper | None) -> tuple[Service, Face]:
    """The service and its face, with one meter for both."""
    meter = Meter()
    path, storage = queue_path(serving.url), _storage(serving.storage)
    setting = Setting(
        path, matcher(), door, storage=storage, numbers=meter, watched=lambda server: Metered(server, meter)
    )
    issuer = serving.issuer
    login = Login(issuer.url, serving.login_client, audience=issuer.audience) if issuer else Login()
    service = Service(setting)
    return service, Face(service, meter, Shown(serving.open_board, login))


def _door(serving: Serving) -> Doorkeeper | None:
    if serving.plain:
        return None
    issuer = () if serving.issuer is None else (IssuerTokens(_trust(serving.issuer)),)
    return Doorkeeper((own_tokens(KeyFolder(serving.keys)), *issuer), signing.claims_of)


def _tls(serving: Serving) -> ssl.SSLContext | None:
    return None if serving.plain else listening.tls_of(*_pair(serving))


def _pair(serving: Serving) -> tuple[Path, Path]:
    folder = KeyFolder(serving.keys)
    pair = (serving.certificate or folder.certificate, serving.key or folder.certificate_key)
    secret(pair[1])
    return pair


def _reload(serving: Serving, door: Doorkeeper | None, tls: ssl.SSLContext | None) -> None:
    """Everything is read before anything is changed."""
    if door is None or tls is None:
        return
    fresh = _door(serving)
    assert fresh is not None
    listening.load_certificate(tls, *_pair(serving))
    door.trust(fresh.verifiers)


def _trust(issuer: Issuer) -> Trust:
    groups: dict[str, Role] = {}
    for each in issuer.groups:
        role, equals, group = each.partition("=")
        if role not in set(Role) or not equals or not group:
            raise Final(Code.SERVER_REFUSED, f"--group {each!r}: use ROLE=GROUP, ROLE one of {', '.join(Role)}")
        groups[group] = Role(role)
    context = ssl.create_default_context(cafile=str(issuer.ca) if issuer.ca else None)
    return Trust(issuer.url, issuer.audience, groups, issuer.user_claim, context)


def _storage(at: StorageAt | None) -> StorageKey | None:
    if at is None:
        return None
    key = signing.read_key(secret(at.key), str(at.key), time.time)
    return StorageKey(key, at.issuer, at.audience, "/" + at.base.strip("/"))


def _where(serving: Serving, sockets: list[listening.Socket]) -> str:
    scheme = "http" if serving.plain else "https"
    host, port = listening.reached_at(listening.place_of(serving.listen), sockets)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    form = logging.Formatter("%(asctime)s %(levelname)s %(message)s", TIME)
    form.converter = time.gmtime
    handler.setFormatter(form)
    for name in ("pilot.serve", "uvicorn.error"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    logging.getLogger("pilot.serve").setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
