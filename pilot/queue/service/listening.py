"""Where the service listens: addresses, sockets, TLS."""

import contextlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from pilot.model.faults import Code
from pilot.ports import Final

GIVEN_PORT = 25443  # PanDA's
BACKLOG = 4096
Socket = socket.socket


@dataclass(frozen=True, slots=True)
class Place:
    """A host ("" = every address of this machine) and a port (0 = one that is free)."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside this machine can reach it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"


def place_of(text: str) -> Place:
    """HOST:PORT, [ADDRESS]:PORT, HOST, :PORT or *; raises in one line."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(GIVEN_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdigit() or int(port) > 65535 or (":" in host and not text.startswith("[")):
        raise Final(Code.SERVER_REFUSED, f"--listen {text!r}: use HOST:PORT, [IPv6 ADDRESS]:PORT or *:PORT")
    return Place("" if host == "*" else host, int(port))


def open_sockets(place: Place) -> list[socket.socket]:
    """Sockets that listen there, IPv6 and IPv4 where both are meant; raises in one line."""
    try:
        if not place.host:
            return [_everywhere(place.port)]
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _each(list(dict.fromkeys((family, address) for family, _, _, _, address in found)))
    except OSError as problem:
        where = f"{place.host or '*'}:{place.port}"
        raise Final(Code.SERVER_REFUSED, f"--listen {where}: {problem.strerror}") from problem


def tls_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with that certificate; raises in one line."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Puts that certificate in place of what the context had; connections that stand are not touched."""
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as problem:
        raise Final(Code.SERVER_REFUSED, f"certificate {certificate} with key {key}: {_reason(problem)}") from problem


def _reason(problem: OSError) -> str:
    """OpenSSL's own words name lines of its source."""
    reason = problem.reason if isinstance(problem, ssl.SSLError) else ""
    if reason == "KEY_VALUES_MISMATCH":
        return "they do not belong together"
    if isinstance(problem, ssl.SSLError):
        return f"no certificate and key in PEM that can be read ({(reason or 'PEM').lower().replace('_', ' ')})"
    return problem.strerror or str(problem)


def _everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True, reuse_port=False
        )
    return socket.create_server(("", port), backlog=BACKLOG)


def _each(places: list[tuple[socket.AddressFamily, tuple[object, ...]]]) -> list[socket.socket]:
    """One socket an address; all or none. Where the port is to be a free one, it is the same for all."""
    opened: list[socket.socket] = []
    try:
        for family, address in places:
            port = opened[0].getsockname()[1] if opened else address[1]
            opened.append(socket.create_server((address[0], port, *address[2:]), family=family, backlog=BACKLOG))
    except OSError:
        for each in opened:
            each.close()
        raise
    return opened


def reached_at(place: Place, sockets: list[Socket]) -> tuple[str, int]:
    """The host and the port by which the service is to be named."""
    return place.host or socket.getfqdn(), sockets[0].getsockname()[1]
