"""The composition root of `pilot login`: whose tokens a queue takes, a person's token, where it is kept."""

import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pilot.assemble.server import kept_tokens, token_name
from pilot.config.settings import Settings
from pilot.model.faults import Code
from pilot.ports import Final, PortError

if TYPE_CHECKING:
    from pilot.adapters.credentials_device import Client

LOGIN = "login"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says of a login; "" = what the queue says."""

    issuer: str = ""
    client_id: str = ""
    scope: str = ""
    audience: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Where the token is, whose it is, and until when it holds (UTC epoch seconds; 0 = it does not say)."""

    token_file: Path
    issuer: str
    ends: float


def log_in(settings: Settings, wish: Wish, tell: Tell) -> LoggedIn:
    """Renews what is there, or asks the person to a browser; `tell` says to where."""
    from pilot.adapters.credentials_device import Issuer
    from pilot.adapters.credentials_kept import keep

    place = place_of(settings.queue)
    client = _client(settings, wish)
    tls = _trust(settings)
    there = None if wish.fresh else _renewed(place, client, tls)
    if there is not None:
        return there
    issuer = Issuer(client, tls())
    invitation = issuer.invite()
    minutes = max(round(invitation.seconds / 60), 1)
    tell(f"open {invitation.address} in any browser and enter {invitation.code} (within {minutes} min)")
    tokens = issuer.wait(invitation, threading.Event().wait)
    return LoggedIn(place, client.issuer, keep(place, client, tokens, time.time()).ends)


def place_of(url: str) -> Path:
    """The file of the token for that queue: one for each host and port, where every command looks."""
    name = token_name(url)
    if not name:
        raise Final(Code.SERVER_REFUSED, f"queue {url!r}: a token is for a queue at https://HOST:PORT; give --queue")
    folder = next(kept_tokens(os.environ), None)
    if folder is None:
        raise Final(Code.SERVER_REFUSED, "no home directory to keep the token in: set XDG_STATE_HOME")
    return folder / name


def _renewed(place: Path, client: "Client", tls: Callable[[], ssl.SSLContext]) -> LoggedIn | None:
    """The login of before, if it was of the same client and is still good for a token."""
    from pilot.adapters.credentials_kept import kept, renewed

    login = kept(place)
    if login is None or login.client != client or not login.refresh or not place.exists():
        return None
    try:
        return LoggedIn(place, client.issuer, renewed(place, tls).ends)
    except PortError as problem:
        if problem.fault.code is Code.SERVER_UNREACHABLE:
            raise
        return None


def _client(settings: Settings, wish: Wish) -> "Client":
    """As whom to ask where: the command line's word, else the queue's own."""
    from pilot.adapters.credentials_device import Client

    named = Client(wish.issuer, wish.client_id) if wish.issuer and wish.client_id else _told(settings)
    if wish.issuer:
        named = replace(named, issuer=wish.issuer)
    if not named.issuer or not named.client_id:
        advice = "ask who runs it for a token: pilot queue token; or give --issuer and --client-id"
        raise Final(Code.SERVER_REFUSED, f"queue {settings.queue}: names no issuer of tokens; {advice}")
    changes = {"client_id": wish.client_id, "scope": wish.scope, "audience": wish.audience}
    return replace(named, **{name: value for name, value in changes.items() if value})


def _told(settings: Settings) -> "Client":
    """What the queue says; a plain PanDA server says nothing."""
    from pilot.adapters.credentials_device import Client
    from pilot.adapters.credentials_token import NoCredential
    from pilot.adapters.server_calls import discovered
    from pilot.adapters.server_gate import Gate
    from pilot.adapters.server_http import HttpLine
    from pilot.model.plain import PlainError, from_plain
    from pilot.wire.calls import path

    line = HttpLine(settings.queue, NoCredential(), Gate(), settings.ca)
    try:
        reply = line.call("GET", path(LOGIN), {}) if LOGIN in discovered(line) else None
        return Client("", "") if reply is None else from_plain(Client, reply.data)
    except PlainError:
        raise Final(Code.SERVER_REFUSED, f"queue {settings.queue}: says nothing sensible of its issuer") from None
    finally:
        line.close()


def _trust(settings: Settings) -> Callable[[], ssl.SSLContext]:
    from pilot.adapters.server_tls import Until, trust

    return lambda: trust(settings.ca, os.environ, Until())
