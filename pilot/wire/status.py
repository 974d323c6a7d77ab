"""The status that PanDA puts inside its envelope: 200 says nothing there, nor does `success`."""

from pilot.wire.envelope import Reply, WireError, shown
from pilot.wire.reading import Record, number, record

OK = 0
# Protocol.py's numbers; of these only the first two may be otherwise a moment later.
PASSING = frozenset({10, 30})
NAMES = {
    10: "timed out",
    20: "no jobs",
    30: "failed",
    50: "invalid token or value",
    60: "wrong role",
    70: "permission denied",
    80: "key missing",
    90: "proxy not retrieved",
}


class Refused(WireError):
    """The server understood and said no; `passing` where the same may do a moment later."""

    def __init__(self, said: str, passing: bool) -> None:
        super().__init__(said)
        self.passing = passing


def check_status(reply: Reply) -> Record:
    """The data of a reply that did what was asked; raises Refused for any other."""
    data = record({} if reply.data is None else reply.data, "data")
    code = number(data, "StatusCode", OK if reply.success else 30)
    if reply.success and code == OK:
        return data
    what = NAMES.get(code, f"status {code}")
    said = f"{what}: {shown(reply.message)}" if reply.message else what
    raise Refused(said, passing=_passes(reply, code))


def _passes(reply: Reply, code: int) -> bool:
    """An argument that the server refuses is refused again; what it names as time-out or failure may pass."""
    refused = ("Argument error", "Type error", "role required", "no production/pilot role", "SSL secure connection")
    return code in PASSING and not any(each in reply.message for each in refused)
