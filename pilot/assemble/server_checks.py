"""What `pilot doctor` says of a queue at a distance: who we are to it, whether it answers, whether it knows us."""

import math
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

from pilot.assemble.server import credentials_of, is_remote, kept_token, source_of
from pilot.config.settings import Settings
from pilot.model.check import Check, Status
from pilot.model.faults import Code
from pilot.model.queue import QueueSettings
from pilot.ports import Credentials, PortError

if TYPE_CHECKING:
    from pilot.adapters.server_calls import Calls

SOON_SECONDS = 3600.0  # a credential that ends within an hour is worth a word


def credential_check(settings: Settings, now: float) -> Check:
    """Who we are to the server: whether it can be read, and how long it holds by this machine's clock."""
    if not is_remote(settings.queue):
        return Check("credential", Status.SKIP, "", "the queue is a file")
    try:
        found = credentials_of(settings, os.environ)
        name, ends = _name(settings, found), found.ends()
    except PortError as error:
        return failed("credential", error)
    if not name:
        remedy = "name a token with --token-file, or a proxy with PILOT_PROXY_FILE; or `pilot login`"
        return Check("credential", Status.WARN, "", "none: the server will not know who asks", remedy)
    if math.isinf(ends):
        return Check("credential", Status.OK, "", f"{name}: does not say how long it holds")
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
    if ends <= now:
        return Check(
            "credential", Status.FAIL, Code.CREDENTIAL_EXPIRED, f"{name}: expired {until}", _renew(settings, found)
        )
    if ends - now < SOON_SECONDS:
        return Check("credential", Status.WARN, "", f"{name}: holds until {until}", _renew(settings, found))
    return Check("credential", Status.OK, "", f"{name}: holds until {until}")


def failed(name: str, error: PortError) -> Check:
    """What was wrong and what helps: most lines about servers say both."""
    fault = error.fault
    seen, _, helps = (fault.detail or fault.message).rpartition("; ")
    return Check(name, Status.FAIL, fault.code, seen or helps, helps if seen else fault.remedy)


def _renew(settings: Settings, found: Credentials) -> str:
    if found.certificate():
        return "make a new proxy (voms-proxy-init)"
    if source_of(settings, os.environ) == kept_token(settings.queue, os.environ):
        return f"pilot login --queue {settings.queue}"
    return "write a new token into that file"


def _name(settings: Settings, found: Credentials) -> str:
    if found.certificate():
        return f"X.509 proxy {found.certificate()}"
    return f"token {source_of(settings, os.environ)}" if found.headers() else ""


def answers(settings: Settings) -> str:
    """How that server answers to us; raises what is wrong."""
    from pilot.adapters.server_calls import Calls, discovered
    from pilot.adapters.server_gate import Gate
    from pilot.adapters.server_http import HttpLine

    with closing(HttpLine(settings.queue, credentials_of(settings, os.environ), Gate(), settings.ca)) as line:
        if not discovered(line):
            return f"{settings.queue} answers: a plain PanDA server"
        role = _role(Calls(line, settings.queue_name))
        return f"{settings.queue} answers, and takes this credential for {role}"


def _role(calls: "Calls") -> str:
    """Tried, with calls that change nothing."""
    from pilot.adapters.server_own import Changed

    try:
        calls.ask("changed", Changed, {"since": "", "patience": 0.0})
    except PortError as refused:
        if refused.fault.code is not Code.CREDENTIAL_REFUSED:
            raise
        calls.ask("settings", QueueSettings, {})
        return "a user's"
    return "a pilot's"
