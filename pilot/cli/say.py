"""What programs may read goes to stdout, line by line, at once; what is only for people goes to stderr.

Jobs, payloads and queues write what they like into names, details and logs. To a terminal some of it is an order: to
set its title, to answer as if somebody had typed, to overwrite the line above. Here, and nowhere else, it becomes
harmless.
"""

import codecs
import os
import re
import sys
from typing import TextIO

_LOG = frozenset("\n\t\r")  # of a log: a carriage return is how a progress bar stays in its line
_LINES = frozenset("\n\t")
# Control characters, the marks that turn the direction of writing, the tags nobody sees, halves of a character.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def harmless(text: str, kept: frozenset[str] = _LINES) -> str:
    """The text with what a terminal would obey written out, as `cat -v` and `less` do; what is `kept` stays."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] in kept else _written_out(found[0]), text)


def one_line(text: str) -> str:
    """The same for a name among other words: it makes no lines of its own."""
    return harmless(text, frozenset())


def _written_out(letter: str) -> str:
    code = ord(letter)
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Screen:
    """A log on its way to where it is read: harmless on a terminal, octet for octet everywhere else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._plain = not out.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")  # a letter may come in two parts

    def write(self, said: bytes) -> int:
        """Writes a part; gives its length."""
        shown = said if self._plain else harmless(self._decoder.decode(said), _LOG).encode()
        self._out.buffer.write(shown)
        self._out.buffer.flush()
        return len(said)


def say(text: str) -> None:
    """One line on stdout; where nobody reads any more, nothing, from now on."""
    try:
        sys.stdout.write(harmless(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # only the pilot sees it: to other commands the signal is the end
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say_aside(text: str) -> None:
    """One line for people, on stderr."""
    sys.stderr.write(f"pilot: {harmless(text)}\n")
