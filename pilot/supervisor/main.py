"""Starts the supervisor: `python -S -E -s -c "...main()" STATE ADOPT_WINDOW CONNECTION`."""

from __future__ import annotations

import _socket
import os
import sys

from pilot.supervisor import kernel
from pilot.supervisor.launch import settle_signals
from pilot.supervisor.lean import Quietly
from pilot.supervisor.link import line
from pilot.supervisor.place import Place, Taken
from pilot.supervisor.server import Supervisor


def main() -> None:
    """Serves the pilot at the other end of the descriptor CONNECTION, and any that comes back to STATE."""
    state, window, connection = sys.argv[1:4]
    _detach(int(connection))
    pilot = _socket.socket(fileno=int(connection))
    try:
        place = Place(state)
        listener = place.occupy()
    except OSError as error:
        reason = error.strerror or str(error)
        with Quietly(OSError):  # a pilot that has died meanwhile
            pilot.send(
                line(
                    {
                        "event": "refused",
                        "message": f"no supervisor in {state}: {reason}",
                        "taken": isinstance(error, Taken),
                    }
                )
            )
        return
    os.chdir("/")
    supervisor = Supervisor(listener, float(window))
    supervisor.attend(pilot, owner=True)
    supervisor.run()
    place.vacate()


def _detach(keep: int) -> None:
    """Leaves the pilot's session and descriptors; only `keep` and the standard three stay."""
    with Quietly(PermissionError):  # already a leader
        os.setsid()
    settle_signals()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            with Quietly(OSError):  # the listing's own descriptor
                os.close(int(name))
    os.set_inheritable(keep, False)
    kernel.adopt_orphans()  # a killed shim's payload falls to this process, which ends it
