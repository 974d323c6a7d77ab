"""A token renewed by PanDA's server itself, for pilots that were started with the key to it."""

from collections.abc import Mapping
from pathlib import Path

from pilot.adapters.secret_file import read_secret
from pilot.adapters.server_line import Line
from pilot.model.faults import Code
from pilot.ports import Passing

PATH = "/api/v1/creds/get_access_token"
CLIENT = "pilot_server"  # the name under which PanDA keeps tokens for pilots


class Renewal:
    """Asks for a fresh token, over a line that still has an old one; the key is read anew each time."""

    def __init__(self, line: Line, key: Path) -> None:
        self._line = line
        self._key = key

    def __call__(self) -> str:
        """The fresh token; raises PortError without a word of the key."""
        key = read_secret(self._key, "token key")[0].decode("ascii", "replace").strip()
        reply = self._line.call("GET", PATH, {"client_name": CLIENT, "token_key": key})
        token = reply.data.get("user_proxy") if isinstance(reply.data, Mapping) else None
        if not reply.success or not isinstance(token, str) or not token:
            raise Passing(Code.CREDENTIAL_REFUSED, f"token key {self._key}: the server gave no token for it")
        return token
