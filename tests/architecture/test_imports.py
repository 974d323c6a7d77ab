"""Who may import whom. If this stands in your way, the design is speaking."""

import sys
from collections.abc import Iterable

import pytest

from tests.architecture.tree import ISLANDS, Module, calls, dotted, modules, of, planted

# Layer -> what of ours it may import. `failpoints` marks effects, so only those that have effects know it.
LAYERS = {
    "model": {"model"},
    "core": {"core", "model"},
    "ports": {"model"},
    "wire": {"wire", "model"},
    "config": {"config", "model"},
    "failpoints": set(),
    "shell": {"shell", "core", "ports", "model", "failpoints"},
    "adapters": {"adapters", "ports", "wire", "model", "failpoints", "supervisor"},
    "queue": {"queue", "core", "ports", "wire", "model", "failpoints"},
    "study": {"study", "core", "ports", "model", "failpoints"},
    "assemble": {
        "assemble",
        "adapters",
        "queue",
        "shell",
        "study",
        "core",
        "ports",
        "wire",
        "config",
        "model",
        "supervisor",
    },
    "cli": {"cli", "assemble", "config", "model"},
    "supervisor": {"supervisor"},
    "payload": set(),
    "__main__": {"cli"},
    "__init__": set(),
}
# What comes from outside, by layer; each is imported at first use where a pilot's start would pay for it.
THIRD_PARTY = {
    "config": {"pydantic", "pydantic_core", "yaml"},
    "shell": {"structlog"},
    "adapters": {"classad2", "htcondor2", "psutil", "pynvml", "requests", "urllib3"},
    "wire": {"pydantic"},
    "queue": {"cryptography", "httptools", "jwt", "prometheus_client", "psutil", "starlette", "uvicorn"},
    "assemble": set(),
    "cli": {"click"},
}
AT_FIRST_USE = {"classad2", "htcondor2", "psutil", "pynvml", "requests", "urllib3"}
# The one import of a door beyond the layers: a PortError is what a user is told.
ALSO = {("cli", "ports"), ("assemble", "failpoints")}
PURE_FORBIDDEN = {
    "asyncio", "ctypes", "fcntl", "glob", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "queue",
    "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid", "zoneinfo",
}  # fmt: skip
PURE_FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "datetime.now",
                        "datetime.utcnow", "datetime.today", "date.today"}  # fmt: skip
BY_STRING = {"__import__", "import_module", "importlib.import_module", "importlib.__import__"}


def test_every_folder_is_a_known_layer() -> None:
    assert {each.layer for each in modules()} <= set(LAYERS)


def test_imports_follow_the_layers() -> None:
    wrong = _against_the_layers(modules())
    assert not wrong, "\n".join(wrong)


def _against_the_layers(where: Iterable[Module]) -> list[str]:
    return [
        f"{module.path}:{line}: {module.layer} imports {name}"
        for module in where
        for line, name, _ in module.imports()
        if name.startswith("pilot.") and not _allowed(module, name.split(".")[1])
    ]


def _allowed(module: Module, layer: str) -> bool:
    return layer in LAYERS[module.layer] or (module.layer, layer) in ALSO or layer == "__version__"


def test_imports_are_absolute_and_never_by_string() -> None:
    wrong = [f"{m.path}:{line}: {name}" for m in modules() for line, name, _ in m.imports() if name.startswith(".")]
    wrong += [
        f"{m.path}:{each.lineno}: {dotted(each.func)}" for m in modules() for each in calls(m.tree)
        if dotted(each.func) in BY_STRING and m.path not in BY_TABLE
    ]  # fmt: skip
    assert not wrong, "\n".join(wrong)


# The command line imports a sub-command when it is called: a table of literal names, so that `pilot run` starts fast.
BY_TABLE = {"pilot/cli/main.py"}


def test_no_adapter_knows_another() -> None:
    """An adapter is a port's name and what follows; rooms without a port's name are shared by all of them."""
    wrong = [
        f"{module.path}:{line}: imports {name}"
        for module in of("adapters")
        for line, name, _ in module.imports()
        if name.startswith("pilot.adapters.") and not _same_adapter(module.name, name)
    ]
    assert not wrong, "\n".join(wrong)


PORTS = (
    "credentials",
    "images",
    "journal",
    "launcher",
    "matcher",
    "probe",
    "runtime",
    "server",
    "storage",
    "batch",
    "box",
)


def _same_adapter(importer: str, imported: str) -> bool:
    first, second = (each.split(".")[2] for each in (importer, imported))
    port = second.split("_")[0]
    return port not in PORTS or first.split("_")[0] == port


def test_what_comes_from_outside_is_listed() -> None:
    wrong = [
        f"{module.path}:{line}: {name}"
        for module in modules()
        for line, name, _ in module.imports()
        if _foreign(name) and name.split(".")[0] not in THIRD_PARTY.get(module.layer, set())
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_modules_are_imported_at_first_use() -> None:
    wrong = [
        f"{module.path}:{line}: {name}"
        for module in modules()
        for line, name, at_once in module.imports()
        if at_once and name.split(".")[0] in AT_FIRST_USE
    ]
    assert not wrong, "\n".join(wrong)


def _foreign(name: str) -> bool:
    top = name.partition(".")[0]
    return top not in sys.stdlib_module_names and top != "pilot"


def test_islands_stand_on_the_standard_library_alone() -> None:
    wrong = [
        f"{module.path}:{line}: {name}"
        for module in of(*ISLANDS)
        for line, name, _ in module.imports()
        if _foreign(name) or (name.startswith("pilot") and name.split(".")[1] != module.layer)
    ]
    assert not wrong, "\n".join(wrong)


def test_model_and_core_know_no_world() -> None:
    wrong = _worldly(of("model", "core"))
    assert not wrong, "\n".join(wrong)


def _worldly(where: Iterable[Module]) -> list[str]:
    imported = [
        f"{module.path}:{line}: imports {name}"
        for module in where
        for line, name, _ in module.imports()
        if name.partition(".")[0] in PURE_FORBIDDEN
    ]
    called = [
        f"{module.path}:{each.lineno}: calls {dotted(each.func)}"
        for module in where
        for each in calls(module.tree)
        if dotted(each.func) in PURE_FORBIDDEN_CALLS
    ]
    return imported + called


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("core", "from pilot.ports import Server"),
        ("core", "def f():\n    from pilot.shell.loop import Loop"),
        ("adapters", "from pilot.core.ledger import grant"),
        ("cli", "import pilot.adapters.sums"),
        ("model", "from pilot.core import steps"),
    ],
)
def test_a_wrong_import_is_seen(layer: str, text: str) -> None:
    assert _against_the_layers([planted(layer, text)])


@pytest.mark.parametrize(
    "text", ["import time", "from os import path", "def f():\n    import random", "open('x')", "datetime.now()"]
)
def test_a_look_at_the_world_is_seen(text: str) -> None:
    assert _worldly([planted("core", text)])
