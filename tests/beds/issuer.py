"""A toy issuer of tokens (OpenID Connect): a key, a discovery document and a key set as files, RS256."""

import base64
import json
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "pilot-client"
KEY_ID = "only"


class Issuer:
    """Documents lie under `folder`, which somebody serves as `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.url = url
        self.discovery = f"{url}/discovery.json"
        folder.mkdir(parents=True)
        self._write(folder / "discovery.json", {"issuer": url, "jwks_uri": f"{url}/keys.json", "token_endpoint": url})
        self._write(folder / "keys.json", {"keys": [self._public()]})

    def token(self, life: float = 3600.0, audience: str = AUDIENCE, **more: object) -> str:
        """One for a pilot; `more` replaces claims."""
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": audience, "sub": "robot", "name": "robot pilot", "groups": ["wlcg/pilot"],
            "iat": now - 3600, "nbf": now - 3600, "exp": now + int(life), **more,
        }  # fmt: skip
        head = _part({"alg": "RS256", "kid": KEY_ID, "typ": "JWT"})
        body = f"{head}.{_part(claims)}"
        return f"{body}.{_text(self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def client(self) -> dict[str, object]:
        """What a relying server is told of this issuer (PanDA's auth_config)."""
        return {"client_id": AUDIENCE, "client_secret": "", "oidc_config_url": self.discovery, "vo": "wlcg"}

    def _public(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": KEY_ID,
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }

    def _write(self, file: Path, document: dict[str, object]) -> None:
        file.write_text(json.dumps(document))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _part(document: dict[str, object]) -> str:
    return _text(json.dumps(document).encode())


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))
