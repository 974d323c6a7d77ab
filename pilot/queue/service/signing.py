"""A key that signs tokens: ES256, kept in a file that only its owner reads; tokens of it are read here too."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service.call import Role
from pilot.queue.service.identity import Denied, Holder

ALGORITHM = "ES256"
LEEWAY_SECONDS = 60.0  # how far the clocks of two machines may stand apart
TOKEN_LETTERS = 16_384
NAME_LETTERS = 128


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and what it calls itself; `wall` is the clock that its tokens go by."""

    private: ec.EllipticCurvePrivateKey
    name: str
    wall: Callable[[], float] = time.time

    def sign(self, claims: Mapping[str, object]) -> str:
        """The claims as a token."""
        return jwt.encode(dict(claims), self.private, ALGORITHM, {"kid": self.name})


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """The queue's own tokens: minted and read with its own key."""

    key: SigningKey
    issuer: str

    def mint(self, role: Role, user: str, seconds: float) -> str:
        """A token for that user in that role."""
        now = self.key.wall()
        names = {"iss": self.issuer, "aud": self.issuer, "sub": user, "role": role.value}
        return self.key.sign({**names, "iat": int(now), "exp": int(now + seconds)})

    def verify(self, token: str) -> Holder:
        """Whom it speaks for; raises Denied."""
        found = decoded(token, self.key.private.public_key(), ALGORITHM, self.issuer)
        role = found.get("role")
        if not isinstance(role, str) or role not in set(Role):
            raise Denied(Code.CREDENTIAL_REFUSED, "the token names no role of this queue")
        return Holder(user_in(found, "sub"), Role(role), expiry_of(found, self.key.wall()))


def new_key() -> bytes:
    """A fresh private key, PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes, where: str, wall: Callable[[], float] = time.time) -> SigningKey:
    """The key in that PEM text; raises in one line."""
    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise Final(Code.SERVER_REFUSED, f"{where}: no private key in PEM that can be read") from problem
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise Final(Code.SERVER_REFUSED, f"{where}: not a P-256 key, as ES256 needs")
    return SigningKey(private, thumbprint(private.public_key()), wall)


def thumbprint(public: ec.EllipticCurvePublicKey) -> str:
    """A short name of a public key, the same wherever it is computed."""
    import hashlib

    form = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(form).hexdigest()[:16]


def claims_of(token: str) -> Mapping[str, object]:
    """What a token says of itself, unverified: only to find out whose key it needs."""
    try:
        if len(token) > TOKEN_LETTERS:
            raise Denied(Code.CREDENTIAL_REFUSED, "the token is too long")
        return cast(Mapping[str, object], jwt.decode(token, options={"verify_signature": False}))
    except (jwt.PyJWTError, ValueError, RecursionError) as problem:
        raise Denied(Code.CREDENTIAL_REFUSED, "the token is no JSON web token") from problem


def decoded(token: str, key: object, algorithm: str, audience: str) -> Mapping[str, object]:
    """What a token says, its signature and audience verified; its times are judged by our own clock."""
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "iss", "aud"]}
    try:
        return cast(Mapping[str, object], jwt.decode(token, key, [algorithm], options, audience=audience))  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, RecursionError) as problem:
        raise Denied(Code.CREDENTIAL_REFUSED, f"the token is not accepted: {problem}") from problem


def expiry_of(claims: Mapping[str, object], now: float) -> float:
    """When the token expires; raises Denied where it has, or does not hold yet."""
    until, since = claims.get("exp"), claims.get("nbf", 0)
    if isinstance(until, bool) or not isinstance(until, int | float) or not isinstance(since, int | float):
        raise Denied(Code.CREDENTIAL_REFUSED, "the token's times are no numbers")
    if until <= now:
        raise Denied(Code.CREDENTIAL_EXPIRED, "the token has expired; get a new one")
    if since > now + LEEWAY_SECONDS:
        raise Denied(Code.CREDENTIAL_REFUSED, "the token does not hold yet; compare the clocks")
    return float(until)


def user_in(claims: Mapping[str, object], name: str) -> str:
    """The user that a token names; raises Denied for one that no log and no list should hold."""
    user = claims.get(name)
    if not isinstance(user, str) or not user.isprintable() or not 0 < len(user) <= NAME_LETTERS:
        raise Denied(Code.CREDENTIAL_REFUSED, f"the token names no user (claim {name!r})")
    return user
