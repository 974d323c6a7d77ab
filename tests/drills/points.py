"""Every point at which the pilot may be killed, as the code itself lists them; and those that no drill here reaches."""

import ast
from collections.abc import Iterator
from pathlib import Path

from pilot.shell.crew import ORDER_POINTS

PILOT = Path(__file__).parents[2] / "pilot"
GENERATED = {"pilot/shell/crew.py": ORDER_POINTS}  # points whose names are made from values

_USERS = "a user's command, not the pilot's: killed at each effect by tests/contracts/test_server_processes.py"
_IMAGES = "`pilot image build|pull|gc`, not the pilot's: its list is written last, so what a kill leaves is unlisted"
_NO_O_TMPFILE = "only where the file system knows no nameless files: tests/contracts/test_storage.py"
ELSEWHERE = {  # every point that the menu of drills does not pass, with its reason
    **dict.fromkeys(
        ("queue.add", "queue.add-sweep", "queue.upgrade", "queue.hold", "queue.release", "queue.checkpoint",
         "queue.settings", "queue.new", "queue.change",
         "queue.create", "queue.create-sync", "queue.cancel"), _USERS),
    **dict.fromkeys(("images.list", "images.forget", "images.put-away", "images.keep-file", "images.keep-directory"),
                    _IMAGES),
    **dict.fromkeys(("part.publish-named", "part.rename"), _NO_O_TMPFILE),
    "staging.reuse": "only a second job of one pilot takes a swept sandbox: tests/e2e/test_sandbox_reused.py",
    "staging.bring-up": "only in a tree too deep for a path, and within it: tests/unit/shell/test_staging.py",
    "server.secret": "a credential from PanDA's server: the file is there whole or not at all",
    "login.keep": "`pilot login`, and renewals of its token: the file is there whole or not at all",
    "serve.key": "`pilot queue serve --setup` and `token`, not the pilot's: a key is there whole or not at all",
    "queue.begin": "`pilot queue serve` as it starts: one transaction, and the next start does it again",
    "server.call": "only on a queue at a distance: killed there by tests/e2e/test_queue_at_a_distance.py",
    "part.displace": "an input is unlinked before it is fetched again: only another writer's file is displaced",
}  # fmt: skip


def points() -> frozenset[str]:
    """All of them, by name."""
    return frozenset(name for file in sorted(PILOT.rglob("*.py")) for name in _points_of(file))


def elsewhere() -> frozenset[str]:
    """The points that are not drilled here."""
    return frozenset(f"{name}.{side}" for name in ELSEWHERE for side in ("before", "after"))


def _points_of(file: Path) -> Iterator[str]:
    path = file.relative_to(PILOT.parent).as_posix()
    if path == "pilot/failpoints.py":
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("effect", "failpoint"):
            yield from _named(path, node.func.id, node.args[0])


def _named(path: str, call: str, name: ast.expr) -> Iterator[str]:
    if not isinstance(name, ast.Constant):
        assert path in GENERATED, f"{path}:{name.lineno}: give {call}() a plain name, or list its names in GENERATED"
        yield from GENERATED[path]
    elif call == "effect":
        yield from (f"{name.value}.before", f"{name.value}.after")
    else:
        yield str(name.value)
