"""The `Matcher` port: what an expression means, and that none can hurt the process that asks."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.adapters import matcher_gate
from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.faults import Code
from pilot.ports import Final

TREE = Path(__file__).parents[2]
NODE = {
    "Cpus": 4,
    "Memory": 8192,
    "Microarch": "x86_64-v3",
    "Images": ["ml-base", "ml-torch"],
    "HasSingularity": True,
    "GPUs_Capability": 8.6,
    "Owner": "site",
}
JOB = {"RequestCpus": 2, "Owner": "ada"}
MATCHER = ClassAdMatcher()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("TARGET.Cpus >= 2", True),
        ("target.cpus >= 2", True),
        ("Cpus >= RequestCpus", True),  # a bare name: mine, else the target's, as HTCondor looks it up
        ("TARGET.Cpus >= MY.RequestCpus && TARGET.HasSingularity", True),
        ("Cpus > 4 || Memory > 8000", True),
        ("Cpus > 4", False),
        ('TARGET.Microarch >= "x86_64-v3"', True),
        ('TARGET.Microarch >= "x86_64-v4"', False),
        ("GPUs_Capability >= 8.0", True),
        ('member("ml-base", TARGET.Images)', True),
        ('Owner == "ada"', True),
        ('TARGET.Owner == "site"', True),
        ("MY.Cpus >= 1", False),  # mine alone, and I have none
        ("TARGET.Nonsense > 1", False),
        ("isUndefined(TARGET.Nonsense)", True),
        ("TARGET.Nonsense =?= undefined", True),
        ('TARGET.Microarch > 3 || "a" + 1', False),  # an error is no match
        ("1", True),
        ("0", False),
        ('"true"', False),
        ("undefined", False),
        ("error", False),
        ("{1,2}", False),
        ("Cpus >= 2 // so many", False),  # the library reads no comment at the end: refused, not matched
        ("Cpus /* cores */ >= 2", True),
        ("time > 1", False),  # an attribute may be named like a function
        ("'Cpus' >= 2", True),
    ],
)
def test_what_an_expression_means(expression: str, expected: bool) -> None:
    assert MATCHER.matches(expression, dict(NODE), dict(JOB)) is expected
    assert (MATCHER.why_not(expression, dict(NODE), dict(JOB)) is None) is expected


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("time() > 1", r"time\(\) may not be called"),
        ("TIME /* really */ ( ) > 1", r"time\(\) may not be called"),
        ("'time'() > 1", r"time\(\) may not be called"),
        ("random(5) > 1", r"random\(\)"),
        ('eval("1")', r"eval\(\)"),
        ('regexp("a", "b")', r"regexp\(\)"),
        ('RegExps("a", "b", "c")', r"regexps\(\)"),
        ('regexpMember("a", {"b"})', r"regexpmember\(\)"),
        ('stringList_regexpMember("a", "b")', r"stringlist_regexpmember\(\)"),
        ('userHome("root")', r"userhome\(\)"),
        ("CurrentTime > 1", "currenttime may not be used"),
        ("parent.x", "parent may not be used"),
        ("", "empty"),
        ("  /* nothing */ ", "empty"),
        ("Cpus >", "not a ClassAd expression"),
        ("a b", "not a ClassAd expression"),
        ("(Cpus > 1", "not closed"),
        ("Cpus > 1)", "column 9: '\\)' closes what was not opened"),
        ("Cpus > \x00", "column 8"),
        ('"never ends', "column 1"),
        ("x = 1", "column 3: '='"),
        ("'a\\x74' > 1", "column 1"),
        ("a" * 4097, "longer than 4096 bytes"),
        ("(" * 40 + "1" + ")" * 40, "nested deeper"),
        ("!" * 100 + "true", "nested deeper"),
        ("1" + "?1:1" * 100, "nested deeper"),
        (" && ".join(f"a{n}" for n in range(65)), "more than 64 attributes"),
        ("1" + "<1" * 600, "more than 1024 tokens"),
    ],
)
def test_what_is_refused(expression: str, why: str) -> None:
    with pytest.raises(Final, match=why) as refused:
        MATCHER.check(expression)
    assert refused.value.fault.code is Code.JOB_INVALID
    assert "\n" not in refused.value.fault.detail
    assert MATCHER.matches(expression, dict(NODE), dict(JOB)) is False
    assert MATCHER.why_not(expression, dict(NODE), dict(JOB)) is not None


@pytest.mark.parametrize(
    ("expression", "clause", "attribute", "offered"),
    [
        ("Cpus >= 2 && TARGET.Memory >= 9000", "TARGET.Memory >= 9000", "Memory", "8192"),
        ("TARGET.Nonsense == 3", "TARGET.Nonsense == 3", "Nonsense", "undefined"),
        ("(Cpus > 8 && Memory > 1) && Cpus > 1", "(Cpus > 8 && Memory > 1)", "Cpus", "4"),
        ("Cpus > 8 || Memory < 1", "Cpus > 8 || Memory < 1", "Cpus", "4"),
        ("RequestCpus > 2", "RequestCpus > 2", "RequestCpus", "2"),
        ("Cpus > 1 && 0", "0", "requirements", "not true"),
        ("Cpus > 8 ? true : false", "Cpus > 8 ? true : false", "Cpus", "4"),
    ],
)
def test_why_not_names_the_clause_and_the_attribute(expression: str, clause: str, attribute: str, offered: str) -> None:
    miss = MATCHER.why_not(expression, dict(NODE), dict(JOB))
    assert miss is not None
    assert (miss.clause, miss.attribute, miss.offered) == (clause, attribute, offered)


def test_the_unusual_is_evaluated_in_a_child() -> None:
    assert matcher_gate.gate('strcat("a", "b") == "ab"').unusual
    assert MATCHER.matches('strcat("a", "b") == "ab"', {}, {})
    assert MATCHER.matches('TARGET.Images[1] == "ml-torch"', dict(NODE), dict(JOB))
    assert not MATCHER.matches("noSuchCall(1)", {}, {})
    with pytest.raises(Final, match="not a ClassAd expression"):
        MATCHER.check("Images[0] 5")


def test_values_that_a_classad_cannot_hold_are_left_out() -> None:
    odd = {"Big": 1 << 70, "Nan": float("nan"), "Thing": object(), "List": [1, "a"], "Cpus": 2}
    assert MATCHER.matches("TARGET.Cpus == 2 && isUndefined(TARGET.Big)", odd, {})


def test_jobs_without_requirements_never_load_the_library() -> None:
    code = (
        "import sys; from pilot.adapters.matcher_classad import ClassAdMatcher as M; from pilot.core.matching import *;"
        "from pilot.model.capability import Offer; from pilot.model.job import JobSpec;"
        "print(fit(shape_of(JobSpec('a', ('b',), image='c'), 'o'), Offer('p', 'h', 1, 1, 1), M()));"
        "print('classad2' in sys.modules, 'htcondor2' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=TREE, capture_output=True, text=True, timeout=30, check=True)
    assert out.stdout.split("\n")[:2] == ["Fit(variant=0)", "False False"]


# --- fuzz: nothing leaves but the port's own errors, and nothing takes long ---

NAMES = ["Cpus", "TARGET.Cpus", "MY.RequestCpus", "Nonsense", "TARGET.Images", "'a b'"]
VALUES = ["1", "0", "-1", "1.5", '"x"', "true", "undefined", "error", "{1,2}", "1e308", "99999999999999999999"]
CALLS = ["time()", "random()", "isUndefined(x)"]
ATOMS = st.sampled_from([*NAMES, *VALUES, *CALLS])
OPERATORS = st.sampled_from(
    ["&&", "||", "==", "=?=", "=!=", "<", ">=", "+", "-", "*", "/", "%", "<<", "is", "isnt", "."]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, OPERATORS, inner).map(" ".join),
        inner.map(lambda each: f"({each})"),
        inner.map(lambda each: f"!{each}"),
        st.tuples(inner, inner, inner).map(lambda each: f"{each[0]} ? {each[1]} : {each[2]}"),
        st.tuples(st.sampled_from(["member", "size", "int", "ifThenElse", "substr", "toUpper"]), inner).map(
            lambda each: f"{each[0]}({each[1]})"
        ),
    ),
    max_leaves=60,
)
PIECES = [*"()[]{}!-+~?:<>=&|.,'\"\\/* \n\x00aZ_9é", "time(", "regexp", "TARGET.", "/*", "*/", "=?=", "Cpus", "{1,"]
NOISE = st.lists(st.sampled_from(PIECES), max_size=300).map("".join)


def _bounded(expression: str) -> None:
    """Checks and matches within 100 ms of this thread's own time; only the port's errors leave."""
    start = time.thread_time()
    try:
        unusual = matcher_gate.gate(expression).unusual
    except Final:
        unusual = False
    if not unusual:  # a child has a deadline of its own, and is slow to start
        with contextlib.suppress(Final):
            MATCHER.check(expression)
        assert isinstance(MATCHER.matches(expression, dict(NODE), dict(JOB)), bool)
        MATCHER.why_not(expression, dict(NODE), dict(JOB))
    assert time.thread_time() - start < 0.1


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS)
def test_any_expression_is_answered(expression: str) -> None:
    _bounded(expression)


@settings(max_examples=400, deadline=None)
@given(st.one_of(NOISE, st.text(max_size=200), st.binary(max_size=200).map(lambda each: each.decode("latin-1"))))
def test_any_text_is_answered(text: str) -> None:
    _bounded(text)


@pytest.mark.parametrize(
    "bomb",
    [
        "1" + "+1" * 200_000,
        "(" * 200_000,
        "!" * 4000,
        "-" * 4000 + "1",
        "x." * 1300 + "x",
        "{" * 2000 + "}" * 2000,
        "1?" * 1000 + "1" + ":1" * 1000,
        "/*" * 2000,
        "/" * 4000,
        "'" * 4000,
        '"' * 4000,
        '"' + "\\" * 4000,
        "size(" * 31 + '"a"' + ")" * 31,
        "1" * 4000,
        "1." + "0" * 4000,
        "&&" * 2000,
        " " * 4000,
        "a" * 4096,
        "\ud800",
    ],
)
def test_bombs(bomb: str) -> None:
    _bounded(bomb)
