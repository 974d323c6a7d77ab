"""A toy issuer on a real loopback socket: discovery, keys, the device flow, renewals; people answer as told."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.beds.issuer import Issuer

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CODE = "WDJB-MJHT"


@dataclass
class DeviceIssuer:
    """What the person in front of the browser does: `answer` is yes, no, or nothing yet; the rest is the issuer's."""

    folder: Path
    client_id: str = "ml-grid-pilot"
    answer: str = "yes"
    after: int = 1  # so many questions are answered "pending" first
    slow_downs: int = 0  # and so many more with "slow down"
    failures: int = 0  # and so many are not answered at all
    interval: float = 0.02
    code_life: float = 5.0
    token_life: float = 3600.0
    claims: dict[str, object] = field(default_factory=lambda: {"sub": "anna", "groups": ["ml/users"]})
    discovery: dict[str, object] = field(default_factory=dict)  # replaces what discovery says
    raw: dict[str, bytes] = field(default_factory=dict)  # path -> what is answered instead
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)  # when it was asked for a token
    used: set[str] = field(default_factory=set)  # renewal keys: each is good for once

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.signer = Issuer(self.folder / "issuer", self.url)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="issuer")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        if path == "/keys.json":
            return 200, json.loads((self.folder / "issuer/keys.json").read_text())
        if path != "/.well-known/openid-configuration":
            return 404, {}
        about = {"issuer": self.url, "jwks_uri": f"{self.url}/keys.json", "token_endpoint": f"{self.url}/token"}
        return 200, {**about, "device_authorization_endpoint": f"{self.url}/device", **self.discovery}

    def post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        self.asked.append((path, form))
        if form.get("client_id") != self.client_id:
            return 401, {"error": "invalid_client"}
        if path == "/device":
            return 200, {
                "device_code": "the-device-code", "user_code": CODE, "verification_uri": f"{self.url}/enter",
                "expires_in": self.code_life, "interval": self.interval,
            }  # fmt: skip
        self.at.append(time.monotonic())
        return self._renewed(form) if form.get("grant_type") == "refresh_token" else self._polled(form)

    def _polled(self, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        if form != {"grant_type": GRANT, "device_code": "the-device-code", "client_id": self.client_id}:
            return 400, {"error": "invalid_request"}
        if self.failures:
            self.failures -= 1
            return 503, {}
        if self.slow_downs:
            self.slow_downs -= 1
            return 400, {"error": "slow_down"}
        if self.after or not self.answer:
            self.after -= 1
            return 400, {"error": "authorization_pending"}
        if self.answer != "yes":
            return 400, {"error": "access_denied" if self.answer == "no" else self.answer}
        return 200, self._tokens()

    def _renewed(self, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        key = form["refresh_token"]
        if key in self.used or not key.startswith("renew-"):
            return 400, {"error": "invalid_grant"}
        self.used.add(key)
        return 200, self._tokens()

    def _tokens(self) -> dict[str, object]:
        now = int(time.time())
        token = self.signer.token(
            self.token_life, **{"iat": now, "nbf": now, "jti": str(len(self.asked)), **self.claims}
        )
        return {
            "access_token": token, "token_type": "Bearer", "expires_in": self.token_life,
            "refresh_token": f"renew-{len(self.asked)}",
        }  # fmt: skip


def _handler(issuer: DeviceIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*issuer.get(urlsplit(self.path).path))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            self._say(*issuer.post(self.path, {name: values[0] for name, values in parse_qs(text).items()}))

        def _say(self, status: int, document: dict[str, object]) -> None:
            body = issuer.raw.get(self.path, json.dumps(document).encode())
            self.send_response(status)
            if status in (301, 302):
                self.send_header("location", str(document))
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
