"""A line of words as a shell reads them, quotes and backslashes only: as `shlex.split`, whose cost is a hundredfold."""

import re

from pilot.wire.envelope import WireError, shown

_PART = re.compile(r"""([^\s'"\\]++)|\\(.)|'([^']*)'|"((?:[^"\\]++|\\.)*+)"|(\s++)""", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


def words(line: str) -> tuple[str, ...]:
    """The words of that line; raises WireError where a quote is not closed."""
    found: list[str] = []
    parts: list[str] = []
    position = 0
    while position < len(line):
        part = _PART.match(line, position)
        if part is None:
            raise WireError(f"jobPars: a quote is not closed at {shown(line[position:])}")
        position = part.end()
        if part[5] is None:
            parts.append(_said(part))
        elif parts:
            found.append("".join(parts))
            parts = []
    return (*found, "".join(parts)) if parts else tuple(found)


def _said(part: re.Match[str]) -> str:
    bare, escaped, single, double, _ = part.groups()
    if double is not None:
        return _ESCAPED.sub(r"\1", double)
    return bare or escaped or single or ""
