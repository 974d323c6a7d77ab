"""The composition root of queues at a distance: who we are to a server, and which of the two kinds it is."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilot.assemble.served_log import ServedLog
from pilot.config.settings import Settings, load_settings
from pilot.model.capability import Capabilities
from pilot.model.faults import Code
from pilot.ports import Credentials, Final, Server, Storage

if TYPE_CHECKING:
    from pilot.adapters.server_http import HttpLine
    from pilot.adapters.server_queue import OwnQueue

PULSE_ANSWER_SECONDS = 15.0  # for a heartbeat: of three in a lease of 60 s, two may be lost
USUAL_PORTS = {"https": 443, "http": 80}
USUAL_PROXY = Path(f"/tmp/x509up_u{os.getuid()}")  # noqa: S108  where every grid tool puts it; its owner is checked


def is_remote(url: str) -> bool:
    """Whether that queue is reached over the network."""
    return url.startswith(("https:", "http:"))


def servers_of(settings: Settings, node: Capabilities | None = None) -> tuple[Server, Server]:
    """The queue as a pilot of that node uses it, and once more for heartbeats, which nothing may hold up."""
    from pilot.adapters.server_calls import discovered
    from pilot.adapters.server_gate import PULSE_CAP_SECONDS, Gate
    from pilot.adapters.server_http import HttpLine, Limits

    credentials, gate = credentials_of(settings, os.environ), Gate()
    line = HttpLine(settings.queue, credentials, gate, settings.ca)
    limits = Limits(answer=PULSE_ANSWER_SECONDS, gate=PULSE_CAP_SECONDS)
    pulse = HttpLine(settings.queue, credentials, gate, settings.ca, limits)
    if calls := discovered(line):
        return _own(settings, line, "leave" in calls), _own(settings, pulse)
    from pilot.assemble.panda import panda_queue

    queue = panda_queue(settings, line, os.environ, node)
    if queue.data.renewal:
        _renew_with(settings, credentials, line)
    return queue.server(line), queue.server(pulse)


def remote_storages(settings: Settings) -> dict[str, Storage]:
    """What only jobs of a queue at a distance bring from where, by the scheme of its URL."""
    if not is_remote(settings.queue):
        return {}
    from pilot.assemble.panda import sandboxes

    return {"https": sandboxes(settings)}


def served_log(url: str, job: str, which: str) -> ServedLog:
    """A job's log, as the service of its queue can read it."""
    return ServedLog(queue_of(load_settings({"queue": url}).settings), job, which)


def queue_of(settings: Settings) -> "OwnQueue":
    """A served queue as its users use it."""
    from pilot.adapters.server_calls import Calls, discovered
    from pilot.adapters.server_gate import Gate
    from pilot.adapters.server_http import HttpLine
    from pilot.adapters.server_queue import OwnQueue

    line = HttpLine(settings.queue, credentials_of(settings, os.environ), Gate(), settings.ca)
    if not discovered(line):
        line.close()
        advice = "hand jobs to it with PanDA's own client; these commands are for `pilot queue serve` and sqlite:PATH"
        raise Final(Code.SERVER_REFUSED, f"queue {settings.queue}: is a plain PanDA server: {advice}")
    return OwnQueue(Calls(line, settings.queue_name))


def credentials_of(settings: Settings, environment: Mapping[str, str]) -> Credentials:
    """What the settings name, else what Harvester or the site put into the environment, else what `pilot login` got.

    A token goes before a proxy; the settings go before the environment.
    """
    from pilot.adapters.credentials_token import NoCredential, TokenFile
    from pilot.adapters.credentials_x509 import ProxyFile

    named = _named_token(settings, environment)
    if named:
        return TokenFile(Path(named), settings.token_origin or _panda(environment, "ORIGIN"))
    proxy = settings.proxy_file or environment.get("X509_USER_PROXY", "")
    if proxy:
        return ProxyFile(Path(proxy))
    kept = kept_token(settings.queue, environment)
    if kept is not None:
        return _login(kept, settings, environment)
    return ProxyFile(USUAL_PROXY) if USUAL_PROXY.is_file() else NoCredential()


def source_of(settings: Settings, environment: Mapping[str, str]) -> Path | None:
    """The file of the token that `credentials_of` finds, where it finds one."""
    named = _named_token(settings, environment)
    return Path(named) if named else kept_token(settings.queue, environment)


def _named_token(settings: Settings, environment: Mapping[str, str]) -> str:
    return settings.token_file or ("" if settings.proxy_file else _panda(environment, "TOKEN"))


def kept_token(url: str, environment: Mapping[str, str]) -> Path | None:
    """What `pilot login` keeps for that queue."""
    name = token_name(url)
    return next((each / name for each in kept_tokens(environment) if name and (each / name).is_file()), None)


def _login(kept: Path, settings: Settings, environment: Mapping[str, str]) -> Credentials:
    """What `pilot login` keeps; renewed from half of its life on where the issuer lets it."""
    from pilot.adapters.credentials_kept import KeptRenewal
    from pilot.adapters.credentials_token import TokenFile
    from pilot.adapters.server_tls import Until, trust

    token = TokenFile(kept)
    token.renew_with(KeptRenewal(kept, lambda: trust(settings.ca, environment, Until())))
    return token


def secret_files(settings: Settings) -> tuple[Path, ...]:
    """What no job may read through the pilot."""
    named = (settings.token_file, settings.proxy_file, settings.token_key_file, os.environ.get("X509_USER_PROXY", ""))
    given = (*named, _panda(os.environ, "TOKEN"), _panda(os.environ, "TOKEN_KEY"))
    return (*(Path(each) for each in given if each), USUAL_PROXY, *kept_tokens(os.environ))


def _own(settings: Settings, line: "HttpLine", leaves: bool = False) -> Server:
    from pilot.adapters.server_calls import Calls
    from pilot.adapters.server_own import OwnServer

    return OwnServer(Calls(line, settings.queue_name), leaves)


def _renew_with(settings: Settings, credentials: Credentials, line: "HttpLine") -> None:
    """PanDA's server renews a token for whoever has the key to it."""
    from pilot.adapters.credentials_token import TokenFile
    from pilot.adapters.server_renewal import Renewal

    key = settings.token_key_file or _panda(os.environ, "TOKEN_KEY")
    if key and isinstance(credentials, TokenFile):
        credentials.renew_with(Renewal(line, Path(key)))


def _panda(environment: Mapping[str, str], what: str) -> str:
    """`PANDA_AUTH_TOKEN` and its like; a token's name is looked for in `..._DIR`, which PanDA cuts at its last /."""
    names = [f"{prefix}_AUTH_{what}" for prefix in ("OIDC", "PANDA")]
    found = next((environment[each] for each in names if environment.get(each)), "")
    folder = environment.get("PANDA_AUTH_DIR") or environment.get("OIDC_AUTH_DIR") or ""
    if what == "ORIGIN" or not found or found.startswith("/") or not folder:
        return found
    return str(Path(folder.rpartition("/")[0], found))


def token_name(url: str) -> str:
    """Under which name a person's token for that queue is kept: one server has one port, and a token is for one."""
    parts = urlsplit(url)
    if parts.scheme not in USUAL_PORTS or not parts.hostname:
        return ""
    return f"{parts.hostname}:{parts.port or USUAL_PORTS[parts.scheme]}"


def kept_tokens(environment: Mapping[str, str]) -> Iterator[Path]:
    """The folder where `pilot login` keeps tokens, by host and port; a batch slot may have no home."""
    if environment.get("XDG_STATE_HOME"):
        yield Path(environment["XDG_STATE_HOME"], "pilot/tokens")
    elif environment.get("HOME"):
        yield Path(environment["HOME"], ".local/state/pilot/tokens")
