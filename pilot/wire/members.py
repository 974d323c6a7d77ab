"""A large JSON object of a site's, member by member: what one costs is bounded, however many there are."""

import codecs
import re
from collections.abc import Iterator

from pilot.wire.envelope import Bounds, TooMuch, WireError, checked_size, read_first, shown

DOCUMENT_BYTES = 32 << 20  # all of a grid's storages are some ten megabytes
MEMBERS_CAP = 20_000
MEMBER = Bounds(octets=512 << 10)
_FIRST_BYTES = 64 << 10
_BLANKS = re.compile(r"[ \t\r\n]*")


def members(octets: bytes) -> Iterator[tuple[str, object]]:
    """Name and value, one after another; raises WireError for what is no object, or holds a member too large."""
    if len(octets) > DOCUMENT_BYTES:
        raise TooMuch(f"the reply has more than {DOCUMENT_BYTES} bytes")
    read = _Reader(octets)
    read.sign("{")
    last = read.sign("}", text=True) == "}"
    for _ in range(MEMBERS_CAP):
        if last:
            read.end()
            return
        name = read.value()
        if not isinstance(name, str):
            raise WireError(f"the reply is no JSON: a member is named {shown(name)}")
        read.sign(":")
        yield name, read.value()
        last = read.sign(",", "}") == "}"
    raise TooMuch(f"the reply holds more than {MEMBERS_CAP} members")


class _Reader:
    """A window on the octets, as text, that moves on and widens where a value is longer than it."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._taken = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0

    def sign(self, *wanted: str, text: bool = False) -> str:
        """The next sign, which is one of those; with `text` a text may begin there instead."""
        self._skip()
        found = self._text[self._place : self._place + 1]
        if found in wanted:
            self._place += 1
            return found
        if text and found == '"':
            return found
        raise WireError(f"the reply is no JSON: expected {' or '.join(wanted)}, found {shown(found)}")

    def value(self) -> object:
        """The next value."""
        self._skip()
        while True:
            whole = self._taken >= len(self._octets)
            found = read_first(self._text, self._place, whole, MEMBER.depth)
            if found is not None:
                self._place = found[1]
                return found[0]
            self._widen()

    def end(self) -> None:
        """Nothing but blanks is left."""
        self._skip()
        if self._place < len(self._text):
            raise WireError("the reply is no JSON: there is more behind its end")

    def _skip(self) -> None:
        while True:
            match = _BLANKS.match(self._text, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._text) or self._taken >= len(self._octets):
                return
            self._widen()

    def _widen(self) -> None:
        """Twice as much of what is not yet read."""
        left = self._text[self._place :]
        size = max(_FIRST_BYTES, len(left))
        block = self._octets[self._taken : self._taken + size]
        self._taken += len(block)
        try:
            self._text = left + self._decoder.decode(block, self._taken >= len(self._octets))
        except ValueError as error:
            raise WireError(f"the reply is no JSON: {str(error)[:60]}") from None
        self._place = 0
        if size > _FIRST_BYTES:  # a first window can hold no more than its own size in values
            checked_size(self._text.encode(), MEMBER)
