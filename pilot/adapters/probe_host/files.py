"""Reading the kernel's files below a root: each gives text, or a note that says why not."""

from collections.abc import Iterator
from pathlib import Path

FIRST_PART = 16_384  # /proc/cpuinfo has one such part per core and costs milliseconds on large nodes


class Notes:
    """What could not be read or made sense of, each with its reason."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, what: str, reason: str) -> None:
        """One line more."""
        self.lines.append(f"{what}: {reason}")

    def text(self, path: Path) -> str:
        """What the file holds, stripped; "" where it is not there; anything else that goes wrong is noted."""
        try:
            with path.open("rb", buffering=0) as stream:
                return (stream.readall() or b"").decode("utf-8", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            self.add(str(path), error.strerror or str(error))
            return ""

    def head(self, path: Path) -> str:
        """The first part of a file that may be long."""
        try:
            with path.open("rb", buffering=0) as stream:
                return stream.read(FIRST_PART).decode("utf-8", "replace")
        except OSError as error:
            self.add(str(path), error.strerror or str(error))
            return ""


def core_list(text: str) -> frozenset[int]:
    """The numbers of `0-3,8`; raises ValueError where it is no such list."""
    return frozenset(_numbers(text))


def _numbers(text: str) -> Iterator[int]:
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)
