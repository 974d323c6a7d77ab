"""No container: the command in a process of this node, with a clean environment and nothing kept from it."""

import os
from pathlib import Path

from pilot.adapters.beneath import clear, make_folder, opened
from pilot.adapters.entry import MARKER, MARKER_FOLDER, SCRIPT, TERMS, check_name, fresh_marker
from pilot.adapters.environment import Places, payload_environment
from pilot.failpoints import effect
from pilot.model.capability import RuntimeFinding
from pilot.model.report import Isolation
from pilot.ports import RunPlan, RunRequest, Sandbox

_PATH = "/usr/local/bin:/usr/bin:/bin"
_READ_AND_RUN = 0o555


class BareRuntime:
    """`helper` is the folder of pilot_payload.py, `path` the payload's PATH."""

    def __init__(self, helper: Path, path: str = _PATH) -> None:
        self._helper = str(helper)
        self._path = path

    def check(self) -> RuntimeFinding:
        """There is nothing that could be missing."""
        return RuntimeFinding("bare", works=True, detail="no container: payloads are kept from nothing")

    def workdir(self, sandbox: Sandbox) -> str:
        """The directory itself."""
        return str(sandbox.work)

    def prepare(self, request: RunRequest) -> RunPlan:
        """Puts inputs, code and terms into the working directory, read-only, and says what to start."""
        sandbox = request.sandbox
        fresh_marker(sandbox.work)
        _bring(sandbox)
        places = Places(str(sandbox.home), str(sandbox.tmp), str(sandbox.work), self._helper)
        environment = {"PATH": self._path, **payload_environment(request, places)}
        command = request.command or request.spec.command
        argv = ("/bin/sh", "-c", SCRIPT, "pilot-entry", f"{sandbox.work}/{MARKER_FOLDER}/{MARKER}", *command)
        return RunPlan(argv, tuple(environment.items()), str(sandbox.work), Isolation())


def _bring(sandbox: Sandbox) -> None:
    for name in TERMS:
        _link(sandbox.pilot / name, sandbox.work, (name,))
    for root in (sandbox.inputs, sandbox.code):
        for folder, _, names in os.walk(root):
            for name in names:
                source = Path(folder, name)
                parts = source.relative_to(root).parts
                check_name(parts[0])
                _link(source, sandbox.work, parts)


def _link(source: Path, work: Path, parts: tuple[str, ...]) -> None:
    """The file under that name, by hard link, which copies no bytes; what an earlier step put there is replaced."""
    try:
        os.chmod(source, os.stat(source).st_mode & _READ_AND_RUN)
    except FileNotFoundError:
        return
    *folders, name = parts
    make_folder(work, tuple(folders))
    with opened(work, tuple(folders)) as folder:
        clear(folder, name)
        with effect("bare.link"):
            os.link(source, name, dst_dir_fd=folder)
