"""The Python literals that PanDA's transforms take as arguments: lists and mappings of texts, read without Python.

`['a', 'b']`, `{'out.txt': 'user.x.out.txt'}`, `{'IN': ['a', 'b']}`: one pass over the text, its size is its cost.
"""

import re

from pilot.wire.envelope import WireError, shown

_TOKEN = re.compile(r"""\s*(?:u?'((?:[^'\\]|\\.)*+)'|u?"((?:[^"\\]|\\.)*+)"|([\[\]{},:]))\s*""")
_DEEPEST = 3

Token = tuple[bool, str]


def text_list(said: str, where: str) -> list[str]:
    """The list of texts written there."""
    found = _parsed(said, where)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise WireError(f"{where}: expected a list of names, found {shown(said)}")
    return [str(each) for each in found]


def text_map(said: str, where: str) -> dict[str, str]:
    """The mapping of texts to texts written there."""
    found = _parsed(said, where)
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise WireError(f"{where}: expected names by name, found {shown(said)}")
    return {name: str(each) for name, each in found.items()}


def list_map(said: str, where: str) -> dict[str, list[str]]:
    """The mapping of texts to lists of texts written there."""
    found = _parsed(said, where)
    if not isinstance(found, dict):
        raise WireError(f"{where}: expected lists of names by name, found {shown(said)}")
    return {name: _texts(each, where) for name, each in found.items()}


def _texts(value: object, where: str) -> list[str]:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return [str(each) for each in value]
    raise WireError(f"{where}: expected a list of names, found {shown(value)}")


def _parsed(said: str, where: str) -> object:
    tokens = _Tokens(said, where)
    found = _value(tokens, tokens.next(), 0)
    if not tokens.over():
        raise tokens.wrong(f"{shown(said)} goes on behind its end")
    return found


class _Tokens:
    """The tokens of one literal, in order; each says whether it is a text."""

    def __init__(self, said: str, where: str) -> None:
        self._said = said
        self._where = where
        self._position = 0

    def over(self) -> bool:
        """Whether there is no further one."""
        return self._position >= len(self._said)

    def next(self) -> Token:
        """The next one; there has to be one."""
        found = _TOKEN.match(self._said, self._position)
        if found is None:
            raise self.wrong(f"{shown(self._said)} is no list and no mapping of names")
        self._position = found.end()
        sign = found[3]
        return (False, sign) if sign else (True, re.sub(r"\\(.)", r"\1", found[1] or found[2] or ""))

    def wrong(self, what: str) -> WireError:
        """What is wrong, and in which argument."""
        return WireError(f"{self._where}: {what}")


def _value(tokens: _Tokens, token: Token, depth: int) -> object:
    is_text, said = token
    if is_text:
        return said
    if depth < _DEEPEST and said == "[":
        return _items(tokens, depth)
    if depth < _DEEPEST and said == "{":
        return _mapping(tokens, depth)
    raise tokens.wrong(f"{shown(said)} stands in the wrong place")


def _items(tokens: _Tokens, depth: int) -> list[object]:
    found: list[object] = []
    token = tokens.next()
    while token != (False, "]"):
        found.append(_value(tokens, token, depth + 1))
        token = _after(tokens, "]")
    return found


def _mapping(tokens: _Tokens, depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    token = tokens.next()
    while token != (False, "}"):
        if not token[0] or tokens.next() != (False, ":"):
            raise tokens.wrong(f"expected a name and a colon at {shown(token[1])}")
        found[token[1]] = _value(tokens, tokens.next(), depth + 1)
        token = _after(tokens, "}")
    return found


def _after(tokens: _Tokens, end: str) -> Token:
    """What follows an item: the end, or the first token behind a comma."""
    token = tokens.next()
    if token == (False, ","):
        return tokens.next()
    if token != (False, end):
        raise tokens.wrong(f"a comma is missing before {shown(token[1])}")
    return token
