"""TLS handshakes that fail: counted each, told in the log at most once a minute, since strangers can make many."""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("pilot.serve")

TOLD_SECONDS = 60.0
Failed = Callable[[str], None]  # told of OpenSSL's reason; called from the event loop


class _Watched(ssl.SSLObject):
    """One connection's TLS, whose failed handshake is told."""

    failed: Failed

    def do_handshake(self) -> None:
        """As always; what the other end did wrong is told, and raised as always."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it goes on when more has come
        except ssl.SSLError as problem:
            type(self).failed(problem.reason or "unknown")
            raise


@dataclass(slots=True)
class Handshakes:
    """Counts what failed, and says so now and then."""

    count: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    untold: int = 0
    told: float = float("-inf")

    def failed(self, reason: str) -> None:
        """One more."""
        self.count()
        self.untold += 1
        if self.clock() - self.told >= TOLD_SECONDS:
            words = reason.lower().replace("_", " ")
            log.info("TLS handshakes that failed since the last such line: %d; the last one: %s", self.untold, words)
            self.untold, self.told = 0, self.clock()


def watch(context: ssl.SSLContext, failed: Failed) -> None:
    """Has every handshake of that context watched."""
    context.sslobject_class = type("Watched", (_Watched,), {"failed": staticmethod(failed), "__slots__": ()})
