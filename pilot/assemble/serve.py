"""The composition root of `pilot queue serve`: file, keys, doorkeeper, TLS, application, process."""

import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pilot import __version__
from pilot.assemble.queue import destination_problem, matcher, queue_path
from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service import certificates, listening, privacy, signing
from pilot.queue.service.app import build_app
from pilot.queue.service.call import Role
from pilot.queue.service.face import Face, Login, Shown
from pilot.queue.service.handshakes import Handshakes, watch
from pilot.queue.service.identity import Doorkeeper
from pilot.queue.service.issuer import IssuerTokens, Trust
from pilot.queue.service.keys import KeyFolder, own_tokens, secret, set_up, write_token
from pilot.queue.service.limits import Limits
from pilot.queue.service.meter import Meter
from pilot.queue.service.metered import Metered
from pilot.queue.service.running import Running, Wiring, make_room
from pilot.queue.service.state import Service, Setting, names_of
from pilot.queue.service.storage_tokens import StorageKey
from pilot.queue.settings import read_settings

log = logging.getLogger("pilot.serve")

SOON_SECONDS = 14 * 86400.0
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
    shared_file: bool = False
    user_jobs: int = Limits().waiting_jobs
    user_code: int = Limits().upload_bytes


def default_keys(url: str) -> Path:
    """The folder of keys beside a queue file."""
    path = queue_path(url).absolute()
    return path.with_name(f"{path.stem}-keys")


def set_up_keys(keys: Path, names: tuple[str, ...], user: str) -> list[str]:
    """Makes the authority, the server's certificate and the first tokens; says where, and what is certified."""
    folder = KeyFolder(keys)
    pilot, submitter = set_up(folder, certificates.names_of_this_host(names), user)
    server = folder.certificate.read_bytes()
    certified = certificates.names_in(server)
    for_names = " ".join((*certified.hosts, *certified.addresses))
    return [
        f"server certificate: {folder.certificate}, until {_day(certificates.ends_at(server))}, for {for_names}",
        f"certificate authority: {folder.ca}",
        f"pilot token: {pilot}",
        f"submitter token: {submitter}",
    ]


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
    door, meter = _door(serving), Meter()
    tls, sockets = _tls(serving, meter), listening.open_sockets(place)
    _keep_private(serving)
    service, face = _service(serving, door, meter)
    _say_where_outputs_go(service)
    make_room()
    service.begin()
    where = _where(serving, sockets)
    wiring = Wiring(service.drain, lambda: _reload(serving, door, tls, meter), lambda: say(where))
    running = Running(build_app(service, face=face), tls, wiring)
    log.info("begins: %s at %s, version %s, process %d", serving.url, where, __version__, os.getpid())
    running.run(sockets)
    log.info("ended%s", f" by signal {running.ended_by}" if running.ended_by else "")
    return running.ended_by


def _service(serving: Serving, door: Doorkeeper | None, meter: Meter) -> tuple[Service, Face]:
    """The service and its face, with one meter for both."""
    path, storage = queue_path(serving.url), _storage(serving.storage)
    setting = Setting(
        path, matcher(), door, storage=storage, numbers=meter, watched=lambda server: Metered(server, meter),
        limits=Limits(serving.user_jobs, serving.user_code),
    )  # fmt: skip
    issuer = serving.issuer
    login = Login(issuer.url, serving.login_client, audience=issuer.audience) if issuer else Login()
    service = Service(setting)
    return service, Face(service, meter, Shown(serving.open_board, login))


def _door(serving: Serving) -> Doorkeeper | None:
    if serving.plain:
        return None
    issuer = () if serving.issuer is None else (IssuerTokens(_trust(serving.issuer)),)
    return Doorkeeper((own_tokens(KeyFolder(serving.keys)), *issuer), signing.claims_of)


def _tls(serving: Serving, meter: Meter) -> ssl.SSLContext | None:
    if serving.plain:
        return None
    pair = _pair(serving)
    context = listening.tls_of(*pair)
    _check_end(serving, pair[0], meter)
    watch(context, Handshakes(meter.handshake_failed).failed)
    return context


def _pair(serving: Serving) -> tuple[Path, Path]:
    folder = KeyFolder(serving.keys)
    if serving.certificate is None or serving.key is None:
        pair = (folder.certificate, folder.certificate_key)
    else:
        pair = (serving.certificate, serving.key)
        for option, path in zip(("--tls-cert", "--tls-key"), pair, strict=True):
            if not path.is_file():
                raise Final(Code.SERVER_REFUSED, f"{option} {path}: no such file")
    secret(pair[1])
    return pair


def _check_end(serving: Serving, path: Path, meter: Meter) -> None:
    """Refuses a certificate that nobody would accept any more, and says so where that is near."""
    until = certificates.ends_at(path.read_bytes())
    renew = "renew it" if serving.certificate else "renew it: pilot queue serve --setup"
    if until <= time.time():
        raise Final(Code.SERVER_REFUSED, f"certificate {path}: ended on {_day(until)}; {renew}")
    if until - time.time() < SOON_SECONDS:
        log.warning("certificate %s ends on %s; %s, then send this process a HUP", path, _day(until), renew)
    meter.certified(until)


def _keep_private(serving: Serving) -> None:
    """Without tokens, and where the file is shared on purpose, others may use it."""
    if not serving.plain and not serving.shared_file:
        for each in privacy.keep_private(queue_path(serving.url)):
            log.warning("%s", each)


def _say_where_outputs_go(service: Service) -> None:
    """A queue whose outputs would land on the wrong disk is better known before the first job than after it."""
    for name in names_of(service.own):
        with service.own.reading() as db:
            destination = read_settings(db, name).destination
        if problem := destination_problem(destination):
            log.warning("queue %s: %s", name, problem)
        elif destination.startswith("file:"):
            log.warning(
                "queue %s: outputs and logs go to %s: each pilot takes that for its own disk, so it has to be a file "
                "system that all nodes and this machine share", name, destination,
            )  # fmt: skip


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _reload(serving: Serving, door: Doorkeeper | None, tls: ssl.SSLContext | None, meter: Meter) -> None:
    """Everything is read before anything is changed."""
    if door is None or tls is None:
        return
    fresh = _door(serving)
    assert fresh is not None
    pair = _pair(serving)
    _check_end(serving, pair[0], meter)
    listening.load_certificate(tls, *pair)
    door.trust(fresh.verifiers)


def _trust(issuer: Issuer) -> Trust:
    groups: dict[str, Role] = {}
    for each in issuer.groups:
        role, equals, group = each.partition("=")
        if role not in set(Role) or not equals or not group:
            raise Final(Code.SERVER_REFUSED, f"--group {each!r}: use ROLE=GROUP, ROLE one of {', '.join(Role)}")
        groups[group] = Role(role)
    try:
        context = ssl.create_default_context(cafile=str(issuer.ca) if issuer.ca else None)
    except OSError as problem:
        reason = "no certificates in PEM" if isinstance(problem, ssl.SSLError) else problem.strerror
        raise Final(Code.SERVER_REFUSED, f"--issuer-ca {issuer.ca}: {reason}") from problem
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
