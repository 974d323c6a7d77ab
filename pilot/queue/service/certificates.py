"""A private certificate authority for one site, and server certificates of it."""

import ipaddress
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

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # as long as clients commonly accept; `--setup` again makes a new one
BACKDATED = timedelta(hours=1)  # for clients whose clock is behind


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
    """The host's names and addresses, those of loopback, and what else is given."""
    own = (socket.gethostname(), socket.getfqdn())
    found = (*more, *own, "localhost", "127.0.0.1", "::1", *_addresses(own))
    addresses = [each for each in found if _is_address(each)]
    hosts = [each for each in found if each and not _is_address(each)]
    return Names(tuple(dict.fromkeys(hosts)), tuple(dict.fromkeys(addresses)))


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


def server_certificate(authority: Pair, names: Names) -> Pair:
    """A fresh certificate for a server of those names."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signer = load_pem_private_key(authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.hosts[0][:64])])
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names.hosts]
    alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in names.addresses]
    builder = (
        _builder(subject, issuer.subject, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return Pair(builder.sign(signer, SHA256()).public_bytes(Encoding.PEM), _pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
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


def _addresses(names: tuple[str, ...]) -> list[str]:
    """Where those names lead, as far as this host knows."""
    found: list[str] = []
    for name in names:
        try:
            found += [str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(name, None)]
        except OSError:
            continue
    return found
