"""The program's own source, parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PILOT = ROOT / "pilot"
ISLANDS = ("supervisor", "payload")  # run on their own, standard library alone


@dataclass(frozen=True)
class Module:
    """One file: its path from the root, its dotted name, the layer it lives in, its text and its tree."""

    path: str
    name: str
    layer: str
    text: str
    tree: ast.Module

    def imports(self) -> Iterator[tuple[int, str, bool]]:
        """Line, full name, and whether it is imported as soon as the module is."""
        inside = {id(each) for function in functions(self) for each in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, each.name, id(node) not in inside) for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                yield from ((node.lineno, f"{start}.{each.name}", id(node) not in inside) for each in node.names)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the program."""
    return tuple(_module(path) for path in sorted(PILOT.rglob("*.py")))


def of(*layers: str) -> list[Module]:
    """The modules of these layers."""
    return [each for each in modules() if each.layer in layers]


def functions(module: Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function, inner ones too."""
    return [each for each in ast.walk(module.tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]


def calls(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def dotted(node: ast.expr) -> str:
    """`os.path.join` of that expression, "" in place of what is no plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def planted(layer: str, text: str) -> Module:
    """A module that is not there, to show that a rule can fail."""
    return Module(f"pilot/{layer}/planted.py", f"pilot.{layer}.planted", layer, text, ast.parse(text))


def _module(path: Path) -> Module:
    parts = path.relative_to(PILOT).with_suffix("").parts
    name = ".".join(("pilot", *(each for each in parts if each != "__init__")))
    text = path.read_text(encoding="utf-8")
    return Module(path.relative_to(ROOT).as_posix(), name, parts[0], text, ast.parse(text))
