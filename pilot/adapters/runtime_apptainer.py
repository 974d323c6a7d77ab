"""Payloads in Apptainer: one argument list, every flag of which answers a measured fault."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.apptainer_found import HOST_PATH, Search, find
from pilot.adapters.beneath import make_file, make_folder
from pilot.adapters.entry import IN_CONTAINER, MARKER, MARKER_FOLDER, TERMS, check_name, environment_file, fresh_marker
from pilot.adapters.environment import Places, payload_environment
from pilot.failpoints import effect
from pilot.model.capability import RuntimeFinding
from pilot.model.faults import Code
from pilot.model.report import Isolation
from pilot.ports import Final, RunPlan, RunRequest, Sandbox

RUN = "/srv"
_HOME = "/home/payload"
_OURS = f"{RUN}/{MARKER_FOLDER}"
_HELPER = f"{_OURS}/lib"
_ENTRY = f"{_OURS}/run/entry"
_PLACES = Places(_HOME, "/tmp", RUN, _HELPER)  # noqa: S108  the sandbox's own /tmp, as the payload sees it
_WITH_NETWORK = frozenset({"outbound", "loopback"})  # a word that nobody knows opens nothing
_FORGET_SECONDS = 60.0  # a finding is asked for again and again; a node that was repaired is noticed after that


@dataclass(frozen=True, slots=True)
class _Bind:
    """One path of the node in the container."""

    source: Path | str
    target: str
    writable: bool = False

    def words(self) -> tuple[str, str]:
        """As arguments: one option per bind, so that no name can add another."""
        end = "" if self.writable else ",ro"
        target = checked(self.target, Code.JOB_INVALID)  # first: a bad name of the job's is not the site's fault
        return "--mount", f"type=bind,src={checked(str(self.source))},dst={target}{end}"


def checked(path: str, blame: Code = Code.RUNTIME_FAILED) -> str:
    """The path, if Apptainer takes it for one path and nothing else."""
    if not path.startswith("/") or any(each in ',:"\\' or not each.isprintable() for each in path):
        raise Final(blame, f"{path!r}: a path in a container is absolute and has no comma, colon or quote")
    return path


class ApptainerRuntime:
    """`helper` is the folder of pilot_payload.py, `receipts` where findings are kept between pilots."""

    def __init__(self, helper: Path, receipts: Path, search: Search) -> None:
        self._helper = helper
        self._receipts = receipts
        self._search = search
        self._lock = threading.Lock()
        self._found = RuntimeFinding("apptainer")
        self._until = 0.0

    def check(self) -> RuntimeFinding:
        """What works here: from memory for a minute, from a receipt for a day, else tried."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = find(self._search, self._receipts)
                self._until = time.monotonic() + _FORGET_SECONDS
            return self._found

    def workdir(self, sandbox: Sandbox) -> str:
        """The same in every container."""
        return RUN

    def prepare(self, request: RunRequest) -> RunPlan:
        """Writes entry and environment, makes the mount points, and says what to start."""
        finding = self.check()
        if not finding.works:
            raise Final(Code.RUNTIME_MISSING, finding.detail)
        if request.image is None:
            raise Final(Code.IMAGE_MISSING, f"job {request.job_id} names no image, and Apptainer runs nothing without")
        box = _write_box(request)
        alone = request.spec.network not in _WITH_NETWORK and finding.network_none
        argv = (
            *(finding.path, "-q", "exec", *finding.flags, "--containall", "--no-eval"),
            *("--workdir", checked(str(request.sandbox.tmp)), "--home", _home(request.sandbox), "--pwd", RUN),
            *(("--net", "--network", "none") if alone else ()),
            *(word for bind in self._binds(request, box) for word in bind.words()),
            *(checked(request.image.path), "/bin/sh", _ENTRY, f"{_OURS}/{MARKER}"),
            *(request.command or request.spec.command),
        )
        isolation = Isolation("apptainer", network="none" if alone else "host", binds=request.binds)
        return RunPlan(argv, _host_environment(request.sandbox), str(request.sandbox.pilot), isolation)

    def _binds(self, request: RunRequest, box: Path) -> tuple[_Bind, ...]:
        """The working directory first, then what lies in it; nothing here comes from the job but names of its files."""
        sandbox = request.sandbox
        ours = (
            _Bind(sandbox.work, RUN, writable=True),
            # A mount point of its own cannot be renamed or replaced by the payload.
            _Bind(sandbox.work / MARKER_FOLDER, _OURS, writable=True),
            _Bind(box, f"{_OURS}/run"),
            _Bind(self._helper, _HELPER),
        )
        return (*ours, *_files(sandbox), *(_site(each) for each in request.binds))


def _home(sandbox: Sandbox) -> str:
    return f"{checked(str(sandbox.home))}:{_HOME}"


def _write_box(request: RunRequest) -> Path:
    """What the entry reads, where no payload writes; and the mount points that a payload may have spoilt."""
    sandbox = request.sandbox
    box = sandbox.pilot / f"{request.step}.box"
    box.mkdir(exist_ok=True)
    with effect("runtime.box"):
        (box / "env").write_bytes(environment_file(payload_environment(request, _PLACES)))
        (box / "entry").write_text(IN_CONTAINER, encoding="ascii")
    fresh_marker(sandbox.work)
    for name in ("run", "lib"):
        make_folder(sandbox.work, (MARKER_FOLDER, name))
    return box


def _files(sandbox: Sandbox) -> list[_Bind]:
    """Terms, inputs and code, each file or top folder of code by itself, read-only over an empty placeholder."""
    binds = [_file(sandbox, sandbox.pilot / name, (name,)) for name in TERMS if (sandbox.pilot / name).exists()]
    for folder, _, names in os.walk(sandbox.inputs):
        sources = [Path(folder, name) for name in names]
        binds += [_named(sandbox, each, each.relative_to(sandbox.inputs).parts) for each in sources]
    for entry in sorted(os.scandir(sandbox.code), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False):
            check_name(entry.name)
            make_folder(sandbox.work, (entry.name,))
            binds.append(_Bind(entry.path, f"{RUN}/{entry.name}"))
        else:
            binds.append(_named(sandbox, Path(entry.path), (entry.name,)))
    return binds


def _named(sandbox: Sandbox, source: Path, parts: tuple[str, ...]) -> _Bind:
    check_name(parts[0])
    return _file(sandbox, source, parts)


def _file(sandbox: Sandbox, source: Path, parts: tuple[str, ...]) -> _Bind:
    make_file(sandbox.work, parts)
    return _Bind(source, "/".join((RUN, *parts)))


def _site(path: str) -> _Bind:
    if not os.path.exists(path):
        raise Final(Code.RUNTIME_FAILED, f"the site's bind {path!r} is not there: correct the pilot's configuration")
    return _Bind(path, path)


def _host_environment(sandbox: Sandbox) -> tuple[tuple[str, str], ...]:
    """What Apptainer itself gets, from nothing: no bind, option or library of the pilot's own environment."""
    own = str(sandbox.pilot / "apptainer")
    return (
        ("PATH", HOST_PATH),
        ("LANG", "C"),
        ("HOME", str(sandbox.pilot)),
        ("TMPDIR", str(sandbox.pilot)),
        ("APPTAINER_CONFIGDIR", own),
        ("APPTAINER_CACHEDIR", own),
        ("APPTAINER_TMPDIR", str(sandbox.pilot)),
    )
