"""The wish to the kernel for which Python has no word of its own."""

from __future__ import annotations

import ctypes
import os

_PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _ask(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def adopt_orphans() -> None:
    """Makes every orphan below this process its child, double-forked daemons in sessions of their own too."""
    _ask(_PR_SET_CHILD_SUBREAPER, 1)
