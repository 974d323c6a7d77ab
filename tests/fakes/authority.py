"""A certificate authority of a test's own: certificates good and bad, proxies, a hashed directory."""

import datetime
import ipaddress
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, in one PEM file."""

    file: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class Authority:
    """Issues certificates; `file` is what clients trust."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self._folder = folder
        self._count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = self._signed(self._name, self._key, (-DAY, 30 * DAY), self._name, ca=True)
        self.file = folder / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(_pem(self.certificate))

    def issue(
        self,
        *names: str,
        life: tuple[datetime.timedelta, datetime.timedelta] = (-DAY, DAY),
        subject: str = "server",
    ) -> Pair:
        """A server's or a user's certificate for those names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(_name(subject), key, life, self._name, names=names or LOOPBACK)
        return self._written(made, key)

    def self_signed(self) -> Pair:
        """One that nobody vouches for."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _build(_name("alone"), _name("alone"), key, key, (-DAY, DAY), LOOPBACK)
        return self._written(made, key)

    def hashed_directory(self) -> Path:
        """As sites keep them: the certificate under the hash of its subject."""
        place = self._folder / f"hashed-{self._count}"
        place.mkdir()
        said = subprocess.run(
            ["openssl", "x509", "-subject_hash", "-noout", "-in", str(self.file)],
            capture_output=True, check=True, timeout=20, text=True,
        )  # fmt: skip
        (place / f"{said.stdout.strip()}.0").write_bytes(_pem(self.certificate))
        return place

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        life: tuple[datetime.timedelta, datetime.timedelta],
        issuer: x509.Name,
        names: tuple[str, ...] = (),
        ca: bool = False,
    ) -> x509.Certificate:
        return _build(subject, issuer, key, self._key, life, names, ca)

    def _written(self, made: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
        self._count += 1
        file = self._folder / f"pair-{self._count}.pem"
        file.touch(mode=0o600)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(_pem(made) + secret + _pem(self.certificate))
        return Pair(file, key, made)


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    life: tuple[datetime.timedelta, datetime.timedelta],
    names: tuple[str, ...] = (),
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + life[0])
        .not_valid_after(now + life[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
    return made.sign(signer, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
