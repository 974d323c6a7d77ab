"""A private certificate authority for one site, and server certificates of it."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilot.model.faults import Code
from pilot.ports import Final

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # as long as clients commonly accept; `--setup` again makes a new one
BACKDATED = timedelta(hours=1)  # for clients whose clock is behind
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Names:
    """What the server is called by those who reach it: host names and addresses."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...]


def names_of_this_host(more: tuple[str, ...] = ()) -> Names:
    """What is given, the host's names, its interfaces' addresses, loopback; raises for a name that is none."""
    for each in more:
        if not _is_address(each) and not _HOST.fullmatch(each):
            raise Final(Code.SERVER_REFUSED, f"--name {each!r}: use a host name or an address, without port or scheme")
    own = (socket.gethostname(), socket.getfqdn())
    return sorted_names((*more, *own, "localhost", "127.0.0.1", "::1", *_interfaces(), *_addresses(own)))


def sorted_names(found: tuple[str, ...]) -> Names:
    """Host names and addresses, each once, in the order given; what is neither is left out."""
    addresses = [str(ipaddress.ip_address(each)) for each in found if _is_address(each)]
    hosts = [each for each in found if not _is_address(each) and _HOST.fullmatch(each)]
    return Names(tuple(dict.fromkeys(hosts)), tuple(dict.fromkeys(addresses)))


def names_in(certificate: bytes) -> Names:
    """The names that a certificate is for."""
    loaded = loaded_certificate(certificate)
    try:
        found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names((), ())
    addresses = [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    return sorted_names((*found.get_values_for_type(x509.DNSName), *addresses))


def ends_at(certificate: bytes) -> float:
    """When a certificate (the first of the file) ends, in seconds since the epoch."""
    return loaded_certificate(certificate).not_valid_after_utc.timestamp()


def loaded_certificate(certificate: bytes) -> x509.Certificate:
    """The first certificate of that PEM text; raises in one line."""
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as problem:
        raise Final(Code.SERVER_REFUSED, "no certificate in PEM that can be read") from problem


def new_authority() -> Pair:
    """A fresh authority, which may sign servers and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pilot queue of {socket.gethostname()}"[:64])])
    builder = (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(builder.sign(key, SHA256()).public_bytes(Encoding.PEM), _pem(key))


def server_certificate(authority: Pair, names: Names, days: float = SERVER_DAYS) -> Pair:
    """A fresh certificate for a server of those names."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signer = load_pem_private_key(authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.hosts[0][:64])])
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names.hosts]
    alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in names.addresses]
    builder = (
        _builder(subject, issuer.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return Pair(builder.sign(signer, SHA256()).public_bytes(Encoding.PEM), _pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _interfaces() -> list[str]:
    """The addresses of this host's interfaces, as the kernel has them."""
    import psutil

    kinds = (socket.AF_INET, socket.AF_INET6)
    listed = [each for interface in psutil.net_if_addrs().values() for each in interface]
    return [each.address.partition("%")[0] for each in listed if each.family in kinds]


def _addresses(names: tuple[str, ...]) -> list[str]:
    """Where those names lead, as far as this host knows."""
    found: list[str] = []
    for name in names:
        try:
            found += [str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(name, None)]
        except OSError:
            continue
    return found
