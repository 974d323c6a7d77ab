"""A bearer token in a file that somebody renews, with PanDA's way of renewing one where it is configured.

The file is looked at before each use and read when it has changed. A token that was renewed through the server is
kept in memory alone, and yields to the file as soon as that changes.
"""

import base64
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.secret_file import Stamp, read_secret, stamp_of
from pilot.model.faults import Code
from pilot.ports import Final, PortError

LENGTH_CAP = 16 * 1024  # what servers take in one header line
RENEW_AGAIN_SECONDS = 60.0  # after a renewal that failed; a token is renewed at half its life, so there is time
HIDDEN = "***"


class NoCredential:
    """For a server that asks nobody who they are: on loopback, in tests."""

    def headers(self) -> Mapping[str, str]:
        """None."""
        return {}

    def certificate(self) -> str:
        """None."""
        return ""

    def reread(self) -> bool:
        """Nothing to read."""
        return False

    def ends(self) -> float:
        """Never."""
        return math.inf

    def hide(self, text: str) -> str:
        """Nothing to hide."""
        return text


@dataclass(frozen=True, slots=True)
class Life:
    """From when to when a token says that it holds; seconds since the epoch."""

    begins: float = 0.0
    ends: float = math.inf


class TokenFile:
    """The token in a file, and who it is meant to speak for (`origin`: PanDA's `vo.role`)."""

    def __init__(self, path: Path, origin: str = "", wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._origin = origin
        self._wall = wall
        self._lock = threading.Lock()
        self._stamp = Stamp()
        self._token = ""
        self._used: set[str] = set()  # every value that was sent: none of them may show
        self._renew: Callable[[], str] | None = None
        self._renew_at = math.inf

    def renew_with(self, ask: Callable[[], str]) -> None:
        """From half of its life on, the token is renewed so; where that fails it is used as it is."""
        with self._lock:
            self._renew = ask
            self._renew_at = _half_life(life_of(self._token)) if self._token else math.inf

    def headers(self) -> Mapping[str, str]:
        """The token, and whom it speaks for."""
        token = self._current()
        return {"Authorization": f"Bearer {token}", **({"Origin": self._origin} if self._origin else {})}

    def certificate(self) -> str:
        """A token needs none."""
        return ""

    def reread(self) -> bool:
        """Reads the file again; whether it holds another token than the one last used."""
        with self._lock:
            before = self._token
            self._read()
            return self._token != before

    def ends(self) -> float:
        """What the token says, unverified; the clock may be wrong, so nothing is refused for it."""
        with self._lock:
            self._look()
            return life_of(self._token).ends

    def hide(self, text: str) -> str:
        """The text without any token that was used."""
        with self._lock:
            secrets = sorted(self._used, key=len, reverse=True)
        for each in secrets:
            text = text.replace(each, HIDDEN)
        return text

    def _current(self) -> str:
        with self._lock:
            self._look()
            ask = self._renew if self._wall() >= self._renew_at else None
            if ask is not None:
                self._renew_at = math.inf  # one renews, the others go on with what there is
            token = self._token
        return self._renewed(ask, token) if ask else token

    def _look(self) -> None:
        if not self._token or stamp_of(self._path) != self._stamp:
            self._read()

    def _read(self) -> None:
        data, stamp = read_secret(self._path, "token")
        self._take(_checked(data, self._path))
        self._stamp = stamp

    def _take(self, token: str) -> None:
        self._token = token
        self._used.add(token)
        self._renew_at = _half_life(life_of(token)) if self._renew else math.inf

    def _renewed(self, ask: Callable[[], str], token: str) -> str:
        """Asked without the lock: a heartbeat must not wait for it."""
        try:
            fresh = _checked(ask().encode(), self._path)
        except PortError:
            fresh = ""
        with self._lock:
            if self._token == token:  # else the file has changed meanwhile, and holds
                soonest = self._wall() + RENEW_AGAIN_SECONDS
                if fresh:
                    self._take(fresh)
                self._renew_at = max(self._renew_at, soonest) if fresh else soonest
            return self._token


def life_of(token: str) -> Life:
    """What a JWT says of its own life, unverified; of anything else, nothing is known."""
    said = _claims(token)
    begins = next((each for each in (said.get("iat"), said.get("nbf")) if _is_time(each)), 0.0)
    ends = said.get("exp")
    return Life(float(begins), float(ends) if _is_time(ends) else math.inf)  # type: ignore[arg-type]  # seen by _is_time


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12


def _half_life(life: Life) -> float:
    return life.begins + (life.ends - life.begins) / 2 if life.begins and math.isfinite(life.ends) else math.inf


def _claims(token: str) -> dict[str, object]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _checked(data: bytes, path: Path) -> str:
    """One line of printable characters; the value itself is never shown."""
    token = data.strip()
    if not token:
        raise Final(Code.CREDENTIAL_REFUSED, f"token {path}: the file is empty")
    if len(token) > LENGTH_CAP or not all(0x21 <= each <= 0x7E for each in token):
        raise Final(Code.CREDENTIAL_REFUSED, f"token {path}: holds no token: expected one line without blanks")
    return token.decode("ascii")
