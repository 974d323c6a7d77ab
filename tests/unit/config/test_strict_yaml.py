"""The strict reader: what it takes, what it refuses and where, and what a hostile file may cost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.config.problems import ConfigProblems
from pilot.config.strict_yaml import BYTES_CAP, DEPTH_CAP, VALUES_CAP, load_documents

MIB = 1 << 20


def data(text: str) -> object:
    (document,) = load_documents(text.encode(), "f.yaml")
    return document.data


def refused(text: bytes) -> list[str]:
    with pytest.raises(ConfigProblems) as found:
        load_documents(text, "f.yaml")
    return found.value.lines()


def outcome(text: bytes, source: str) -> list[str]:
    """The lines of the refusal; none where the file was taken."""
    try:
        load_documents(text, source)
    except ConfigProblems as found:
        return found.lines()
    return []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("true", True), ("false", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("True", "True"),
        ("null", None), ("~", None), ("", None), ("'null'", "null"),
        ("1", 1), ("-7", -7), ("0", 0), ("010", "010"), ("0x1f", "0x1f"), ("0o17", "0o17"), ("1_000", "1_000"),
        ("12:30:45", "12:30:45"), ("2026-11-01", "2026-11-01"), ("1.5", 1.5), ("1e3", 1000.0), ("'1'", "1"),
        (".nan", ".nan"), (".inf", ".inf"), ("-.inf", "-.inf"), ("NaN", "NaN"), ("1e999", "1e999"),
        ("9" * 18, int("9" * 18)), ("9" * 40, "9" * 40), ("=", "="), ("1.", "1."), (".5", ".5"),
    ],
)  # fmt: skip
def test_scalars_hold_no_surprise(written: str, read: object) -> None:
    found = data(f"a: {written}")
    assert found == {"a": read}
    assert type(found["a"]) is type(read)  # type: ignore[index]


def test_keys_are_words() -> None:
    assert data("on: 1\n1: 2\nnull: 3\ntrue: 4") == {"on": 1, "1": 2, "null": 3, "true": 4}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a: &x 1\nb: *x", "f.yaml:1:4: anchors (&) and aliases (*) are not accepted: write the value out"),
        (b"a: *x", "f.yaml:1:4: anchors (&) and aliases (*) are not accepted: write the value out"),
        (b"a: !!str 1", "f.yaml:1:4: tags are not accepted: remove 'tag:yaml.org,2002:str'"),
        (b"a: !!python/object/apply:os.system [x]", "f.yaml:1:4: tags are not accepted"),
        (b"a: 1\nb: 2\na: 3", "f.yaml:3:1: the key 'a' stands here a second time; first in line 1"),
        (b"a:\n  b: 1\n  b: 1", "f.yaml:3:3: the key 'b' stands here a second time; first in line 2"),
        (b"<<: {a: 1}", "f.yaml:1:1: merge keys (<<) are not accepted"),
        (b"{a: 1}: b", "f.yaml:1:1: a key must be a word"),
        (
            b"a: [1, 2",
            "f.yaml:2:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence that begins",
        ),
        (b"a: b: c", "f.yaml:1:5: not YAML: mapping values are not allowed"),
        (b"a:\n\t- b", "f.yaml:2:1: not YAML: found character that cannot start any token"),
        (b"ab\x00c", "f.yaml:1:3: not YAML: a control character"),
        (b"ab\n\xff", "f.yaml:2:1: not UTF-8 text"),
        (b"a" * (BYTES_CAP + 1), "f.yaml: larger than 1 MiB"),
    ],
)
def test_refusals_name_the_place(text: bytes, line: str) -> None:
    (found,) = refused(text)
    assert found.startswith(line)


def test_every_problem_of_form_is_told() -> None:
    assert [each.split(":")[1] for each in refused(b"a: !!str 1\na: 2\nb: !!int 3")] == ["1", "2", "3"]


def test_marks_lead_to_every_value() -> None:
    (document,) = load_documents(b"a:\n  - x\n  - {b: 10}\n", "f.yaml")
    assert document.marks[("a", 1, "b")] == (3, 9)
    assert document.keys[("a", 1, "b")] == (3, 6)
    assert document.texts == {("a", 1, "b"): "10"}
    assert document.mark(("a", 1, "no", "such")) == (3, 5)


def test_several_documents() -> None:
    assert [each.data for each in load_documents(b"a: 1\n---\n[b]\n", "f.yaml")] == [{"a": 1}, ["b"]]
    assert load_documents(b"# nothing\n", "f.yaml") == []


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(JSON_VALUES, st.booleans())
def test_json_is_read_as_json(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    if any(each in text for each in "\x7f\x85\ufeff\ufffe\uffff") or any(0x7F <= ord(each) < 0xA0 for each in text):
        return  # YAML has no raw control characters; JSON writers escape them when asked for ASCII
    (document,) = load_documents(text.encode(), "f.json")
    assert document.data == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text("abc:-?[]{}&*!|>'\"%@#,\n \t~<0.", max_size=80).map(str.encode))
def test_no_file_raises_anything_else(text: bytes) -> None:
    assert all("\n" not in each for each in outcome(text, "f.yaml"))


BOMBS = {
    "laugh": b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(20)),
    "depth-flow": b"[" * MIB,
    "depth-mapping": b'{"a":' * (MIB // 5),
    "depth-block": b"- " * (MIB // 2),
    "depth-indent": b"\n".join(b" " * i + b"a:" for i in range(1400)),
    "many-items": b"[" + b"a," * (MIB // 2 - 2) + b"]",
    "many-keys": b"\n".join(b"%d: 1" % i for i in range(100_000)),
    "many-documents": b"---\n" * (MIB // 4),
    "tags": b"- !!x a\n" * (MIB // 8),
    "repeated-key": b"a: 1\n" * (MIB // 5),
    "digits": b"a: " + b"9" * (MIB - 3),
    "colons": b":" * MIB,
    "quotes": b"'" * MIB,
    "question": b"? " * (MIB // 2),
    "directives": b"%TAG ! tag:\n" * (MIB // 12),
    "large": b"a" * (2 * MIB),
    "surrogates": b'"' + b"\\ud83d\\ude00" * (MIB // 12 - 1) + b'"',
    "backslashes": b'"' + b"\\\\" * (MIB // 2 - 1) + b'"',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_soon_and_in_one_line(name: str) -> None:
    best = 1.0
    for _ in range(3):  # the best of three: the machine may be busy with others
        begun = time.thread_time()
        assert len(outcome(BOMBS[name], "f.json")) <= 1
        best = min(best, time.thread_time() - begun)
    assert best < 0.1, f"{name}: {best:.3f} s"


def test_bombs_need_little_memory(tmp_path: Path) -> None:
    for name, text in BOMBS.items():
        (tmp_path / name).write_bytes(text)
    program = (
        "import sys, pathlib, resource\n"
        "from pilot.config.strict_yaml import load_documents, ConfigProblems\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: load_documents(path.read_bytes(), 'f.json')\n"
        "    except ConfigProblems: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 64 * 1024


def test_the_caps_are_what_the_reference_says() -> None:
    assert (BYTES_CAP, DEPTH_CAP, VALUES_CAP) == (1 << 20, 30, 10_000)
    deep = b"[" * DEPTH_CAP + b"]" * DEPTH_CAP
    assert load_documents(deep, "f.yaml")
    deeper = b"[" * (DEPTH_CAP + 2) + b"]" * (DEPTH_CAP + 2)
    assert refused(deeper) == [f"f.yaml:1:{DEPTH_CAP + 2}: nested deeper than {DEPTH_CAP} levels"]
