"""Sizes that keep the tree readable, and habits that keep it safe."""

import ast
from pathlib import Path
from statistics import median

from pilot.model.faults import REGISTRY, Code
from tests.architecture.tree import ROOT, Module, calls, dotted, functions, modules, of

MODULE_LINES, FUNCTION_LINES, PARAMETERS = 300, 40, 6  # what is usual: 150, 10, 3
LARGER = {
    "pilot/ports.py": "every door in one file, on purpose: it is the list of what the outside world is",
    "pilot/payload/pilot_payload.py": "one file, on purpose: a payload imports it, or copies it",
    "pilot/shell/loop.py": "the one deciding thread: what it does in a turn is read in one place",
}
LONGER = {"pilot/assemble/pilot.py:build_pilot": "the composition root: the whole pilot is put together in one place"}
THE_BROAD_EXCEPT = {"pilot/shell/crew.py", "pilot/payload/pilot_payload.py"}  # the latter removes a half and re-raises


def test_modules_fit() -> None:
    large = {each.path: each.text.count("\n") for each in modules() if each.text.count("\n") > MODULE_LINES}
    assert set(large) <= set(LARGER), large


def test_larger_modules_are_still_there() -> None:
    assert all(ROOT.joinpath(each).exists() for each in LARGER)


def test_functions_fit_in_the_eye() -> None:
    long = [
        f"{module.path}:{each.lineno}: {each.name} has {_lines(each)} lines"
        for module in modules()
        for each in functions(module)
        if _lines(each) > FUNCTION_LINES and f"{module.path}:{each.name}" not in LONGER
    ]
    assert not long, "\n".join(long)


def test_a_usual_function_is_short() -> None:
    assert median(_lines(each) for module in modules() for each in functions(module)) < 10


def test_parameters_are_few() -> None:
    """At most six beside self, and in a constructor what it holds, since that is a list of fields."""
    many = [
        f"{module.path}:{each.lineno}: {each.name} takes {_parameters(each)}"
        for module in modules()
        for each in functions(module)
        if _parameters(each) > PARAMETERS + (each.name == "__init__") * 4
    ]
    assert not many, "\n".join(many)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(each.arg not in ("self", "cls") for each in named)


def test_the_broad_except_lives_in_one_place() -> None:
    wrong = [
        f"{module.path}:{each.lineno}"
        for module in modules()
        for each in ast.walk(module.tree)
        if isinstance(each, ast.ExceptHandler) and _broad(each.type) and module.path not in THE_BROAD_EXCEPT
    ]
    assert not wrong, wrong


def _broad(caught: ast.expr | None) -> bool:
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(each is None or dotted(each) in ("Exception", "BaseException") for each in names)


def test_nothing_sleeps_where_nothing_can_wake_it() -> None:
    """A wait is a wait for something: an event, a queue, a descriptor, each with a time limit."""
    assert not _called(of("model", "core", "shell", "adapters", "queue", "assemble", "wire"), "time.sleep", "sleep")


def test_no_shell_between_us_and_a_command() -> None:
    wrong = [
        f"{module.path}:{each.lineno}"
        for module in modules()
        for each in calls(module.tree)
        if dotted(each.func) in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
        or any(word.arg == "shell" for word in each.keywords)
    ]
    assert not wrong, wrong


def _called(where: list[Module], *names: str) -> list[str]:
    return [f"{m.path}:{each.lineno}" for m in where for each in calls(m.tree) if dotted(each.func) in names]


def test_every_fault_is_registered_and_documented() -> None:
    assert set(REGISTRY) == set(Code)
    page = Path(ROOT, "docs/reference/faults.md").read_text(encoding="utf-8")
    missing = [code.value for code in Code if f"`{code.value}`" not in page]
    assert not missing, missing


def test_each_decision_has_a_number_of_its_own_and_says_it() -> None:
    pages = sorted(ROOT.joinpath("docs/decisions").glob("*.md"))
    assert [each.name[:5] for each in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), page.name
        assert "\n**Decided.** " in text, page.name


def test_the_house_is_drawn_whole() -> None:
    """Every room of core and every folder of tests stands in docs/architecture.md."""
    page = ROOT.joinpath("docs/architecture.md").read_text(encoding="utf-8")
    rooms = [each.name.rpartition(".")[2] for each in of("core") if not each.path.endswith("__init__.py")]
    folders = [f"tests/{each.name}" for each in ROOT.joinpath("tests").iterdir() if each.is_dir()]
    known = [each for each in folders if not each.endswith((".py", "__pycache__"))]
    assert not [each for each in (*rooms, *known) if f"`{each}`" not in page]


def test_the_life_cycle_is_one_visible_table() -> None:
    module = next(each for each in modules() if each.path == "pilot/core/lifecycle.py")
    tables = [each for each in module.tree.body if isinstance(each, ast.AnnAssign) and isinstance(each.value, ast.Dict)]
    assert len(tables) == 1
    assert isinstance(tables[0].value, ast.Dict)
    assert all(each is not None for each in tables[0].value.keys), "each row is written out"
