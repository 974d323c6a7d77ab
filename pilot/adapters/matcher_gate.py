"""The gate before the ClassAd library: which expressions it is given at all, and which only in a child process.

The library is C++ in our own process: a text of hundreds of kilobytes ends the process, a long one holds the
interpreter. So the text is read here first, token by token, and refused where it is long, deep or calls what is
slow, random, looks outside, or gives another answer tomorrow.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise

from pilot.model.faults import Code
from pilot.ports import Final

MAX_BYTES = 4096
MAX_DEPTH = 32
MAX_TOKENS = 1024
MAX_ATTRIBUTES = 64

# Calls that are slow, random, of another day, or look outside; * ends a family. In lower case: ClassAds have no case.
REFUSED = re.compile(
    r"time|currenttime|daytime|abstime|reltime|timezoneoffset|formattime|gettime.*|splittime|interval|random|eval"
    r"|evalineach.*|counteach.*|regexp.*|replace.*|stringlist_?regexp.*|stringlistregexp.*|userhome|usermap|envv.*"
    r"|debug|unresolved|unparse|getfield|refresh.*|exec.*|file.*"
)
REFUSED_ATTRIBUTES = frozenset({"currenttime", "parent", "toplevel", "root"})
# Calls whose cost is that of their text; what is neither here nor refused is evaluated in a child process.
PLAIN_CALLS = frozenset(
    {"isundefined", "iserror", "isstring", "isinteger", "isreal", "islist", "isboolean", "member", "identicalmember"}
    | {"strcmp", "stricmp", "toupper", "tolower", "size", "substr", "int", "real", "string", "bool", "floor"}
    | {"ceiling", "round", "ifthenelse", "versioncmp", "versionge", "versiongt", "versionle", "versionlt"}
    | {"versioneq", "version_in_range", "stringlistmember", "stringlistimember", "stringlistsize"}
)
WORDS = frozenset({"true", "false", "undefined", "error", "is", "isnt", "my", "target"})
SCOPES = frozenset({"my", "target"})

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)"""
    r"""|(?P<string>"(?:[^"\\\x00]|\\[^\x00])*")"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*|'[^'\\\x00\n]*')"""
    r"""|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[KMGTkmgt]?)"""
    r"""|(?P<mark>=\?=|=!=|&&|\|\||==|!=|<=|>=|>>>|<<|>>|[-+*/%<>!~&|^?:(){}\[\],.])"""
)
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_PREFIX = frozenset("-+!~?:")  # each of these in a row, or a chain of conditions, is one level of recursion more


@dataclass(frozen=True, slots=True)
class Token:
    """One token: string, name, number or mark, and its text; where it starts and ends."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute that is referred to: its scope (my, target or none) and its name, in lower case."""

    scope: str
    name: str


@dataclass(frozen=True, slots=True)
class Passed:
    """An expression that passed: its text, its tokens, what it refers to, and whether it needs a child."""

    text: str
    tokens: tuple[Token, ...]
    attributes: tuple[Attribute, ...]
    unusual: bool


@lru_cache(maxsize=4096)
def gate(text: str) -> Passed:
    """The expression, read; raises `Final` (job.invalid) where it is refused, and says why."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _refused(f"longer than {MAX_BYTES} bytes")
    tokens = tuple(islice(_tokens(text), MAX_TOKENS + 1))
    if not tokens:
        raise _refused("it is empty")
    if len(tokens) > MAX_TOKENS:
        raise _refused(f"more than {MAX_TOKENS} tokens")
    _check_depth(tokens)
    calls, attributes = _calls(tokens), _attributes(tokens)
    _check_names(calls, attributes)
    unusual = any(call not in PLAIN_CALLS for call in calls) or any(each.text == "[" for each in tokens)
    return Passed(text, tokens, attributes, unusual)


def clauses(passed: Passed) -> tuple[str, ...]:
    """The parts that a top-level && joins; the whole where it joins nothing, or where || or ?: stands beside it."""
    depth, cuts = 0, []
    for each in passed.tokens:
        depth += (each.text in _OPENING) - (each.text in _CLOSING)
        if depth == 0 and each.kind == "mark" and each.text in ("||", "?", ":"):
            return (passed.text.strip(),)
        if depth == 0 and each.text == "&&":
            cuts.append(each)
    starts = [0, *(cut.end for cut in cuts)]
    ends = [*(cut.start for cut in cuts), len(passed.text)]
    return tuple(passed.text[start:end].strip() for start, end in zip(starts, ends, strict=True))


def _refused(why: str) -> Final:
    return Final(Code.JOB_INVALID, f"requirements: {why}; write a shorter, plain comparison of attributes")


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _refused(f"column {at + 1}: {text[at]!r} cannot be read here")
        if found.lastgroup != "space":
            yield Token(str(found.lastgroup), found[0], at, found.end())
        at = found.end()


def _check_depth(tokens: tuple[Token, ...]) -> None:
    """Counts open brackets and prefixes together: an upper bound of how deep the library's parser recurses."""
    open_brackets = prefixes = 0
    for each in tokens:
        if each.kind != "mark":
            continue
        open_brackets += (each.text in _OPENING) - (each.text in _CLOSING)
        prefixes += each.text in _PREFIX
        if open_brackets < 0:
            raise _refused(f"column {each.start + 1}: {each.text!r} closes what was not opened")
        if open_brackets > MAX_DEPTH or prefixes > 2 * MAX_DEPTH:
            raise _refused(f"column {each.start + 1}: nested deeper than {MAX_DEPTH}")
    if open_brackets:
        raise _refused("a bracket is not closed")


def _calls(tokens: tuple[Token, ...]) -> frozenset[str]:
    following = pairwise(tokens)
    return frozenset(_plain(name) for name, mark in following if name.kind == "name" and mark.text == "(")


def _attributes(tokens: tuple[Token, ...]) -> tuple[Attribute, ...]:
    """Every name that is no word of the language and no call, with the scope that stands before it."""
    found = []
    for place, each in enumerate(tokens):
        is_call = place + 1 < len(tokens) and tokens[place + 1].text == "("
        if each.kind == "name" and not is_call and (each.text[0] == "'" or _plain(each) not in WORDS):
            found.append(Attribute(_scope(tokens, place), _plain(each)))
    return tuple(dict.fromkeys(found))


def _scope(tokens: tuple[Token, ...], place: int) -> str:
    if place < 2 or tokens[place - 1].text != "." or tokens[place - 2].kind != "name":
        return ""
    before = _plain(tokens[place - 2])
    return before if before in SCOPES else ""


def _plain(name: Token) -> str:
    return name.text.strip("'").lower()


def _check_names(calls: frozenset[str], attributes: tuple[Attribute, ...]) -> None:
    for call in sorted(calls):
        if REFUSED.fullmatch(call):
            raise _refused(f"{call}() may not be called")
    if len(attributes) > MAX_ATTRIBUTES:
        raise _refused(f"more than {MAX_ATTRIBUTES} attributes")
    for each in attributes:
        if each.name in REFUSED_ATTRIBUTES:
            raise _refused(f"{each.name} may not be used")
