"""Whom we trust, always: TLS contexts from a site's certificates; there is no way to switch the check off."""

import math
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pilot.model.faults import Code
from pilot.ports import Final

# Where sites keep the certificates of the grid's authorities, hashed; the first that is there is used.
GRID_TRUST = ("/etc/grid-security/certificates", "/cvmfs/grid.cern.ch/etc/grid-security/certificates")
CA = "key `ca` (PILOT_CA)"
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_SHORTEST = 0.001  # seconds; 0 would mean a socket that never waits
_SLICE = 1.0  # seconds between two questions whether what is being read is wanted still


class Until(threading.local):
    """The moment at which the call of this thread must be over, on the monotonic clock, or whether it is given up."""

    moment: float = math.inf
    given_up: Callable[[], bool] | None = None

    def left(self) -> float:
        """Seconds up to it."""
        return max(_SHORTEST, self.moment - time.monotonic())


def trust(ca: str, environment: Mapping[str, str], until: Until) -> ssl.SSLContext:
    """Trusts `ca`, a file or a hashed directory, alone; without it the grid's authorities and the system's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _timed(until)
    if ca:
        _load(context, ca, CA)
        return context
    context.load_default_certs()
    named = environment.get("X509_CERT_DIR", "")
    found = next((each for each in ([named] if named else GRID_TRUST) if Path(each).is_dir()), "")
    if named and not found:
        raise Final(Code.SERVER_REFUSED, f"X509_CERT_DIR {named}: is no directory; correct it, or unset it")
    if found:
        _load(context, found, "X509_CERT_DIR" if named else "")
    return context


def show(context: ssl.SSLContext, certificate: str) -> None:
    """Our own certificate, for servers that ask for one."""
    try:
        context.load_cert_chain(certificate)
    except OSError as error:  # an SSLError is one
        why = getattr(error, "reason", None) or error.strerror
        raise Final(Code.CREDENTIAL_REFUSED, f"certificate {certificate}: cannot be used: {why}") from None


def _load(context: ssl.SSLContext, place: str, named: str) -> None:
    """`named`: by what a person named it; "" for a site's usual directory, which may be empty."""
    path = Path(place)
    try:
        if path.is_dir():
            _hashed(path, named)
            context.load_verify_locations(capath=place)
        else:
            context.load_verify_locations(cafile=place)
    except OSError as error:
        why = error.strerror if path.exists() and not isinstance(error, ssl.SSLError) else "holds no certificate"
        why = why if path.exists() else "there is no such file or directory"
        raise Final(Code.SERVER_REFUSED, f"{named} {place}: {why}; name the authority's certificate, as PEM") from None


def _hashed(folder: Path, named: str) -> None:
    """In a directory OpenSSL finds certificates by their hashed names alone, and says nothing of others."""
    if named and not any(_HASHED.fullmatch(each) for each in os.listdir(folder)):
        advice = f"name the certificate's file, or give it such a name: openssl rehash {folder}"
        raise Final(Code.SERVER_REFUSED, f"{named} {folder}: no file in it has a hashed name (1a2b3c4d.0); {advice}")


def _timed(until: Until) -> type[ssl.SSLSocket]:
    """Sockets that wait no longer than the whole call may last, however slowly octets come."""

    class Timed(ssl.SSLSocket):
        def recv_into(self, *arguments: Any, **named: Any) -> int:  # as SSLSocket has it
            return _in_slices(self, until, lambda: super(Timed, self).recv_into(*arguments, **named))

        def send(self, *arguments: Any, **named: Any) -> int:
            return _in_time(self, until, lambda: super(Timed, self).send(*arguments, **named))

    return Timed


def _in_slices(socket: ssl.SSLSocket, until: Until, act: Callable[[], int]) -> int:
    """As below; where the call may be given up, that is asked even while nothing comes."""
    while until.given_up is not None:
        if until.given_up():
            raise TimeoutError("given up")
        socket.settimeout(min(until.left(), _SLICE))
        try:
            return act()
        except TimeoutError:
            if time.monotonic() >= until.moment:
                raise
    return _in_time(socket, until, act)


def _in_time(socket: ssl.SSLSocket, until: Until, act: Callable[[], int]) -> int:
    if math.isfinite(until.moment):
        socket.settimeout(until.left())
    return act()
