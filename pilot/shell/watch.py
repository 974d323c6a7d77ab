"""Watches how much scratch each running payload uses; more than its share ends it."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pilot.model.facts import End
from pilot.model.faults import Code, fault
from pilot.model.job import Cause

LOOK_SECONDS = 1.0
_SHARE_OF_TIME = 20  # a look may take a twentieth of the time between looks


class Watch:
    """One thread for all payloads; it sleeps while there are none."""

    def __init__(self, post: Callable[[End], None]) -> None:
        self._post = post
        self._watched: dict[str, tuple[Path, int]] = {}
        self._peaks: dict[str, int] = {}
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._over = False

    def add(self, key: str, root: Path, limit: int) -> None:
        """Watches a sandbox; `limit` in bytes."""
        with self._change:
            self._watched[key] = (root, limit)
            self._change.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()

    def peak(self, key: str) -> int:
        """The most bytes that were seen in a sandbox so far."""
        return self._peaks.get(key, 0)

    def drop(self, key: str) -> None:
        """The payload is over."""
        with self._change:
            self._watched.pop(key, None)
            self._peaks.pop(key, None)

    def close(self) -> None:
        """Ends the thread."""
        with self._change:
            self._over = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while self._rest(pause):
            began = time.monotonic()
            with self._change:
                watched = list(self._watched.items())
            for key, (root, limit) in watched:
                self._look(key, root, limit)
            pause = max(LOOK_SECONDS, _SHARE_OF_TIME * (time.monotonic() - began))

    def _rest(self, pause: float) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._over, timeout=pause)
            while not self._watched and not self._over:
                self._change.wait()
            return not self._over

    def _look(self, key: str, root: Path, limit: int) -> None:
        used = tree_bytes(root)
        with self._change:
            if key in self._watched:
                self._peaks[key] = max(used, self._peaks.get(key, 0))
        if used > limit:
            self.drop(key)
            seen = "directories nested deeper than a path can name" if used == BEYOND_MEASURE else f"{used:,} bytes"
            detail = f"{seen} in the sandbox; its share is {limit:,}"
            self._post(End(key, Cause.LIMIT, fault(Code.PAYLOAD_DISK, detail)))


BEYOND_MEASURE = 1 << 62  # nested deeper than a path can name: taken for more than any share


def tree_bytes(root: Path) -> int:
    """Bytes on disk below a directory; what vanishes while looking counts as gone."""
    total, left = 0, [os.fspath(root)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return BEYOND_MEASURE
    return total
