"""The line to a server: what every adapter that speaks the envelope needs of a transport, and no more."""

from collections.abc import Mapping
from typing import Protocol

from pilot.wire.envelope import Reply


class Line(Protocol):
    """One server, reached: verified, authenticated, bounded; raises PortError leaves only.

    A reply with `success: false` is a reply. That the server cannot be reached, says nothing of use, or refuses the
    credential, is a PortError.
    """

    @property
    def origin(self) -> str:
        """Scheme, host and port, for error texts."""

    def call(self, method: str, path: str, arguments: Mapping[str, object]) -> Reply:
        """One request, GET (arguments in the query) or POST (a JSON body); `path` starts with /api/v1/."""

    def close(self) -> None:
        """Lets go of connections."""
