"""Exit codes of the command line; a code is never used for anything else again."""

from enum import IntEnum

from pilot.model.faults import REGISTRY, Code, Party
from pilot.ports import Passing, PortError, Unknown


class Exit(IntEnum):
    """What a command ended with."""

    OK = 0
    NOT_SUCCEEDED = 20
    USAGE = 64
    BAD_JOB = 65
    UNAVAILABLE = 69
    INTERNAL = 70
    UNFIT = 71
    DISK = 73
    LATER = 75
    DENIED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


class Stop(Exception):
    """Ends a command with one clear line and a code."""

    def __init__(self, text: str, code: Exit) -> None:
        super().__init__(text)
        self.code = code


_BY_CODE = {
    Code.STORAGE_EXISTS: Exit.DISK,
    Code.SCRATCH_FULL: Exit.DISK,
    Code.STORAGE_DENIED: Exit.DENIED,
    Code.CREDENTIAL_EXPIRED: Exit.DENIED,
    Code.CREDENTIAL_REFUSED: Exit.DENIED,
    Code.SERVER_REFUSED: Exit.CONFIGURATION,
}
_BY_PARTY = {
    Party.JOB: Exit.BAD_JOB,
    Party.PAYLOAD: Exit.BAD_JOB,
    Party.INPUT: Exit.UNAVAILABLE,
    Party.NODE: Exit.UNFIT,
    Party.SITE: Exit.UNAVAILABLE,
    Party.SERVICE: Exit.UNAVAILABLE,
    Party.PILOT: Exit.INTERNAL,
}


def exit_of(error: PortError) -> Exit:
    """The exit code of a command that ended so."""
    if isinstance(error, Unknown):
        return Exit.USAGE
    if isinstance(error, Passing) and error.fault.code is Code.SERVER_REFUSED:
        return Exit.LATER
    return exit_of_code(error.fault.code)


def exit_of_code(code: Code) -> Exit:
    """The exit code of a command that such a fault ended."""
    return _BY_CODE.get(code, _BY_PARTY[REGISTRY[code].party])
