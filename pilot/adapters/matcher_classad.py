"""The `Matcher` port by HTCondor's own ClassAd library, behind a gate.

The library (62 ms, 15 MB) is imported when the first expression comes: jobs without one never pay for it. What
the gate finds unusual is evaluated in a child process with a deadline and limits of its own, once per question.
"""

import json
import math
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from pilot.adapters.matcher_gate import Attribute, Passed, clauses, gate
from pilot.model.faults import Code
from pilot.model.queue import MatchMiss
from pilot.ports import Final

Ad = dict[str, object]

CHILD_SECONDS = 2.0  # a start of Python and the library (0.1 s) with room for a busy machine
CHILD_MEMORY_BYTES = 512 << 20
CHILD_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pilot.adapters.matcher_classad import child; sys.exit(child())"
)


class ClassAdMatcher:
    """ClassAd expressions, matched one way at a time."""

    def check(self, expression: str) -> None:
        """Raises `Final` with job.invalid where the expression is refused; says why."""
        passed = gate(expression)
        _evaluated(passed, {}, {})

    def matches(self, expression: str, target: Ad, own: Ad) -> bool:
        """Whether the expression of `own` is true against `target`; undefined and errors are not true."""
        try:
            return _evaluated(gate(expression), target, own)
        except Final:
            return False

    def why_not(self, expression: str, target: Ad, own: Ad) -> MatchMiss | None:
        """The first clause of `own`'s expression that is not true against `target`; None = it matches."""
        if self.matches(expression, target, own):
            return None
        try:
            parts = clauses(gate(expression))
        except Final as refused:
            return MatchMiss(expression[:80], "requirements", str(refused))
        failing = next((part for part in parts if not self.matches(part, target, own)), expression)
        return _miss(failing, target, own)


def _miss(clause: str, target: Ad, own: Ad) -> MatchMiss:
    """Names the attribute that the clause turns on: one that is undefined before any other, the target's first."""
    found = _lowered(target), _lowered(own)
    try:
        attributes = gate(clause).attributes
    except Final as refused:
        return MatchMiss(clause, "requirements", str(refused))
    values = [(each.name, _value(each, *found)) for each in attributes]
    undefined = [(name, value) for name, value in values if value == "undefined"]
    others = [(name, value) for name, value in values if name in found[0]] or values
    name, value = (undefined or others or [("requirements", "not true")])[0]
    return MatchMiss(clause, _spelled(name, clause), value)


def _spelled(name: str, clause: str) -> str:
    """The attribute as the clause spells it."""
    at = clause.lower().find(name)
    return clause[at : at + len(name)] if at >= 0 else name


def _value(attribute: Attribute, target: Ad, own: Ad) -> str:
    views = {"my": (own,), "target": (target,)}.get(attribute.scope, (own, target))
    found: object = next((view[attribute.name] for view in views if attribute.name in view), "undefined")
    return str(found)


def _lowered(ad: Ad) -> Ad:
    return {name.lower(): value for name, value in ad.items()}


# --- evaluation ---------------------------------------------------------------------------------------------


def _evaluated(passed: Passed, target: Ad, own: Ad) -> bool:
    mine, theirs = _named(passed, own), _named(passed, target)
    seen = {**_fallen_through(passed, theirs), **mine}
    if passed.unusual:
        return _ask_child(json.dumps([passed.text, seen, theirs], sort_keys=True))
    return _evaluate(passed.text, seen, theirs)


def _named(passed: Passed, ad: Ad) -> Ad:
    """What the expression names, of what the library can hold: ads are long, expressions short."""
    names = {each.name for each in passed.attributes}
    return {name: value for name, value in _lowered(ad).items() if name in names and _is_plain(value)}


def _fallen_through(passed: Passed, theirs: Ad) -> Ad:
    """The target's values for bare names, which MY may hide.

    That is how HTCondor looks a bare name up when it matches; the library alone would call it undefined.
    """
    scoped = {each.name for each in passed.attributes if each.scope == "my"}
    return {each.name: theirs[each.name] for each in passed.attributes if each.name in theirs.keys() - scoped}


def _evaluate(text: str, own: Ad, target: Ad) -> bool:
    """True only where the answer is true, or a number that is not zero, as HTCondor takes it."""
    import classad2

    try:
        answer = classad2.ExprTree(text).eval(classad2.ClassAd(own), classad2.ClassAd(target))
    except (classad2.ClassAdException, ValueError, TypeError, OverflowError, RecursionError) as problem:
        if "parse" in str(problem):
            raise Final(Code.JOB_INVALID, "requirements: not a ClassAd expression; check its spelling") from problem
        return False
    return isinstance(answer, bool | int | float) and not isinstance(answer, classad2.Value) and answer != 0


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | bool) or (isinstance(value, int) and -(2**63) <= value < 2**63)


# --- in a child ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _ask_child(question: str) -> bool:
    """The answer of a child process; one that dies or takes too long has not said true."""
    tree = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-I", "-c", CHILD_CODE, tree]
    try:
        ended = subprocess.run(
            command, input=question.encode(), capture_output=True, timeout=CHILD_SECONDS, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    if ended.returncode == 2:
        raise Final(Code.JOB_INVALID, "requirements: not a ClassAd expression; check its spelling")
    return ended.returncode == 0 and ended.stdout == b"true"


def child() -> int:
    """The child: reads one question, says true or nothing; 2 where the text is no expression."""
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(CHILD_SECONDS),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    text, own, target = json.loads(sys.stdin.buffer.read())
    try:
        sys.stdout.write("true" if _evaluate(text, own, target) else "")
    except Final:
        return 2
    return 0
