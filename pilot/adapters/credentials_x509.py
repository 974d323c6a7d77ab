"""An X.509 proxy: certificates and key in one file, renewed by somebody else."""

import base64
import binascii
import calendar
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pilot.adapters.secret_file import Stamp, read_secret, stamp_of
from pilot.model.faults import Code
from pilot.ports import Final

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _CONTEXT_0, _UTC_TIME, _GENERAL_TIME = 0x30, 0xA0, 0x17, 0x18


class ProxyFile:
    """The proxy in a file; TLS reads it, we only look whether it is there and how long it holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = Stamp()
        self._ends = math.inf

    def headers(self) -> Mapping[str, str]:
        """None: the certificate is shown in the handshake."""
        return {}

    def certificate(self) -> str:
        """The file, found fit to be used."""
        with self._lock:
            self._look()
        return str(self._path)

    def reread(self) -> bool:
        """Whether the file has changed since it was last used."""
        with self._lock:
            before = self._stamp
            self._look()
            return self._stamp != before

    def ends(self) -> float:
        """When the first certificate of the chain runs out."""
        with self._lock:
            self._look()
            return self._ends

    def hide(self, text: str) -> str:
        """The key never leaves the TLS library."""
        return text

    def _look(self) -> None:
        if self._stamp.size >= 0 and stamp_of(self._path) == self._stamp:
            return
        data, stamp = read_secret(self._path, "certificate")
        ends = list(ends_of(data))
        if not ends or b"PRIVATE KEY-----" not in data:
            raise Final(
                Code.CREDENTIAL_REFUSED, f"certificate {self._path}: holds no certificate with its key, both as PEM"
            )
        self._ends, self._stamp = min(ends), stamp


def ends_of(pem: bytes) -> Iterator[float]:
    """When each certificate of a PEM text ends, seconds since the epoch; what cannot be read is passed over."""
    for each in _PEM.findall(pem):
        try:
            yield _not_after(base64.b64decode(each, validate=False))
        except (ValueError, IndexError, binascii.Error):
            continue


def _not_after(der: bytes) -> float:
    """Certificate, to-be-signed part, then: version, serial number, algorithm, issuer, and the validity."""
    parts = list(_items(_inside(_inside(der))))
    shift = 1 if parts[0][0] == _CONTEXT_0 else 0
    tag, validity = parts[3 + shift]
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    return _moment(*list(_items(validity))[1])


def _inside(der: bytes) -> bytes:
    return list(_items(der))[0][1]  # noqa: RUF015  an empty one raises IndexError


def _items(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of what follows one another."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(der[at : at + count], "big"), at + count
        yield tag, der[at : at + length]
        at += length


def _moment(tag: int, text: bytes) -> float:
    form = (
        {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERAL_TIME: "%Y%m%d%H%M%SZ"}[tag] if tag in (_UTC_TIME, _GENERAL_TIME) else ""
    )
    return float(calendar.timegm(time.strptime(text.decode("ascii"), form)))
