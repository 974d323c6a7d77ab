"""One line of `pilot doctor`."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended; only `fail` keeps jobs from running."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it ended, the fault that jobs would meet ("" = none), what was seen, what helps."""

    check: str
    status: Status
    code: str = ""
    detail: str = ""
    remedy: str = ""
