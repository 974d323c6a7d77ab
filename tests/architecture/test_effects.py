"""Every external effect stands inside `with effect("...")`, so that the kill drills find it by themselves."""

import ast
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.architecture.tree import Module, calls, dotted, of, planted

# Calls that another process, or the pilot after a crash, can see. Making and removing what is private is none.
EFFECTS = {"os.rename", "os.replace", "os.link", "os.fsync", "os.fdatasync", "os.symlink", "os.sync", "shutil.move"}
EFFECTS_OF_OBJECTS = {"rename", "commit", "sendall", "hardlink_to", "symlink_to"}  # of a path, a connection, a socket
NAMES = {"effect", "failpoint"}
_BUILD = "`pilot image build`: its receipt is written last, so what a kill leaves is unlisted, and built again"
_ORDER = "the points of its order (order.start, order.checkpoint) stand around it"
UNMARKED = {
    "pilot/adapters/images_build.py:fresh.rename": _BUILD,
    "pilot/adapters/images_build.py:packed.rename": _BUILD,
    "pilot/adapters/images_build.py:made.root.rename": _BUILD,
    "pilot/adapters/images_tools.py:(self.recipe / BASE).symlink_to": "a private folder of the build",
    "pilot/adapters/images_tools.py:(self.recipe / path.name).symlink_to": "a private folder of the build",
    "pilot/adapters/journal_file.py:os.fsync": "the folder's sync, called inside the effect that it completes",
    "pilot/shell/contract.py:os.replace": _ORDER,
    "pilot/shell/telemetry.py:os.replace": "the pilot's own log turns over: nothing is decided by it",
}


def test_every_effect_is_marked() -> None:
    wrong = [
        f"{module.path}:{call.lineno}: {ast.unparse(call.func)} outside `with effect(...)`"
        for module in of("shell", "adapters", "queue")
        for call in _unmarked(module)
        if f"{module.path}:{ast.unparse(call.func)}" not in UNMARKED
    ]
    assert not wrong, "\n".join(wrong)


def _unmarked(module: Module) -> Iterator[ast.Call]:
    marked = {
        id(each)
        for block in ast.walk(module.tree)
        if isinstance(block, ast.With) and any(_is_effect(item.context_expr) for item in block.items)
        for each in ast.walk(block)
    }
    return (each for each in calls(module.tree) if id(each) not in marked and _has_effect(each))


def _is_effect(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Call) and dotted(expression.func) == "effect"


def _has_effect(call: ast.Call) -> bool:
    if dotted(call.func) in EFFECTS:
        return True
    return isinstance(call.func, ast.Attribute) and call.func.attr in EFFECTS_OF_OBJECTS


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("os.rename(a, b)", True),
        ("connection.commit()", True),
        ("with open(a) as b:\n    os.fsync(b)", True),
        ("with effect('x'):\n    os.rename(a, b)", False),
        ("with effect('x'), other():\n    if a:\n        os.link(a, b)", False),
        ("text.replace(a, b)", False),
    ],
)
def test_an_unmarked_effect_is_seen(text: str, seen: bool) -> None:
    assert bool(list(_unmarked(planted("shell", text)))) is seen


def test_an_exception_is_still_needed() -> None:
    there = {f"{m.path}:{ast.unparse(each.func)}" for m in of("shell", "adapters", "queue") for each in _unmarked(m)}
    assert set(UNMARKED) <= there


def test_every_point_has_a_name_of_its_own() -> None:
    """Two effects under one name would be drilled as one."""
    names = Counter(
        ast.literal_eval(call.args[0])
        for module in of("shell", "adapters", "queue", "assemble")
        for call in calls(module.tree)
        if dotted(call.func) in NAMES and isinstance(call.args[0], ast.Constant)
    )
    assert not [name for name, times in names.items() if times > 1]
