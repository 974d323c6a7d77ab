"""Files that travel with a job, and what became of them."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How an input reaches the payload."""

    STAGE = "stage"
    STREAM = "stream"
    CACHE = "cache"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Input:
    """One input: where it is, the name under which the payload sees it, and what it must be."""

    url: str
    name: str
    adler32: str = ""
    sha256: str = ""
    size: int | None = None
    mode: Mode = Mode.STAGE


@dataclass(frozen=True, slots=True)
class Output:
    """One output, a name or a pattern relative to the working directory, and where it goes.

    `to` is the folder under which the queue's rule puts it; `url`, where given, its exact place instead.
    """

    name: str
    to: str = ""
    optional: bool = False
    url: str = ""


# What a job's own code may amount to: packed, unpacked, in files, and (beyond the first cap) how far it may expand.
CODE_BYTES_CAP = 20_000_000
CODE_UNPACKED_CAP = 200_000_000
CODE_FILES_CAP = 10_000
CODE_RATIO_CAP = 100


@dataclass(frozen=True, slots=True)
class CodePack:
    """The job's own code as one archive, carried by the queue under its digest; `names` are its top entries."""

    sha256: str
    size: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """A checkpoint that an earlier attempt left: where, and what it must be."""

    url: str
    sha256: str
    size: int
    attempt: int


class What(StrEnum):
    """Which files a store order means; logs always go along."""

    ALL = "all"
    LOGS = "logs"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file that is where it was meant to be, with its size in bytes and both checksums."""

    name: str
    url: str
    bytes: int
    adler32: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageUsed:
    """The image that a payload ran in. `verified`: file (sha256 now), receipt, unpacked, or none."""

    reference: str
    path: str
    sha256: str
    form: str
    verified: str = "none"
