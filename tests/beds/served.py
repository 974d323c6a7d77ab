"""`pilot queue serve` in a thread of the test: a real socket with TLS, tokens of its own key, a clock of the test's."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from pilot.adapters.credentials_token import TokenFile
from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_own import OwnServer
from pilot.adapters.server_queue import OwnQueue
from pilot.model.queue import QueueSettings
from pilot.queue.service import listening, signing
from pilot.queue.service.app import build_app
from pilot.queue.service.call import Role
from pilot.queue.service.certificates import Names
from pilot.queue.service.identity import Doorkeeper, Verifier
from pilot.queue.service.keys import KeyFolder, own_tokens, set_up, write_token
from pilot.queue.service.running import Running, Wiring
from pilot.queue.service.state import Service, Setting
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store

NAMES = Names(("localhost",), ("127.0.0.1", "::1"))
START_SECONDS = 10.0


class Served:
    """One served queue file, until `close`."""

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float] = time.time,
        host: str = "localhost",
        trusted: tuple[Verifier, ...] = (),
        **more: object,
    ) -> None:
        self.keys = KeyFolder(path.with_name("keys"))
        set_up(self.keys, NAMES, "owner")
        own = own_tokens(self.keys)
        self.door = Doorkeeper((own, *trusted), signing.claims_of)
        self.service = Service(Setting(path, ClassAdMatcher(), self.door, wall, **more))  # type: ignore[arg-type]
        tls = listening.tls_of(self.keys.certificate, self.keys.certificate_key)
        sockets = listening.open_sockets(listening.Place(host, 0))
        shown = f"[{host}]" if ":" in host else host
        self.url = f"https://{shown}:{sockets[0].getsockname()[1]}"
        self.service.begin()
        started = threading.Event()
        wiring = Wiring(self.service.drain, lambda: None, started.set)
        self.running = Running(build_app(self.service), tls, wiring)
        self.thread = threading.Thread(target=self.running.run, args=(sockets,), name="served")
        self.thread.start()
        assert started.wait(START_SECONDS)

    def token(self, role: Role, user: str, seconds: float = 3600.0) -> Path:
        """A token file for that user in that role."""
        return write_token(self.keys, role, user, seconds, self.keys.token(role, user))

    def line(self, role: Role, user: str) -> HttpLine:
        """A line of that user's own."""
        return HttpLine(self.url, TokenFile(self.token(role, user)), Gate(), str(self.keys.ca), environment={})

    def pilot(self, queue: str = "default") -> OwnServer:
        """One pilot's view, over connections of its own."""
        return OwnServer(Calls(self.line(Role.PILOT, "pilot"), queue))

    def user(self, name: str, role: Role = Role.SUBMITTER) -> OwnQueue:
        """One user's view."""
        return OwnQueue(Calls(self.line(role, name), "default"))

    def close(self) -> None:
        """Ends it in good order."""
        self.running.should_exit = True
        self.thread.join(START_SECONDS)
        assert not self.thread.is_alive()


def new_queue(folder: Path, name: str = "default", lease: float = 60.0) -> Path:
    """A queue file with one queue."""
    path = folder / "queue.db"
    if not path.exists():
        create_store(path)
    store = open_store(path)
    destination = (folder / "out").as_uri()
    write_settings(store, QueueSettings(name, "owner", destination=destination, lease_seconds=lease))
    store.close()
    return path


class Raw:
    """Calls written by hand: what no adapter of ours would send."""

    def __init__(self, served: Served, token: str = "") -> None:
        self.served = served
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(served.keys.ca)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, path: str, body: object, **headers: str) -> requests.Response:
        """One POST; octets go as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        where = self.served.url + path
        return self.session.post(where, data=data, headers={**kind, **self.headers, **headers}, timeout=30)

    def get(self, path: str, **query: str) -> requests.Response:
        """One GET."""
        return self.session.get(self.served.url + path, params=query, headers=self.headers, timeout=30)

    def close(self) -> None:
        """Lets go of the connection."""
        self.session.close()
