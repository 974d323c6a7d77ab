"""The tools that build an image: each in a session of its own, with a private folder, a log and a time limit."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pilot.model.faults import Code
from pilot.ports import Passing

STEP_SECONDS = 1800.0  # the longest step is the download of CUDA's libraries, 3 GB
REGISTRY_SECONDS = 60.0  # a base of 50 MB; where the registry cannot be reached Debian's packages are there in 10 s
BASE = "base-of-this-build"  # a relative name: the labels repeat it, and no path of this machine belongs in an image

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Site:
    """One build under way: the store it is for, its private folder, and whom to tell."""

    store: Path
    work: Path
    apptainer: Path
    progress: Progress

    @property
    def caches(self) -> Path:
        """Logs and wheels, kept between builds."""
        return self.store / ".build"

    @property
    def recipe(self) -> Path:
        """Where the definition is built: links to its neighbours, and to its base."""
        return self.work / "recipe"

    def lay_out(self, folder: Path, base: Path) -> None:
        """Fills `recipe`."""
        if self.recipe.exists():
            remove(self.recipe)
        self.recipe.mkdir()
        for path in folder.iterdir():
            (self.recipe / path.name).symlink_to(path)
        (self.recipe / BASE).symlink_to(base)


# A user namespace of our own, with this user as its root: the same for everybody, with or without /etc/subuid, and
# the only way for root where a capability was dropped. In a PID namespace of its own nothing is left over.
_PRIVATE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
_TIED = ["setpriv", "--pdeathsig", "KILL"]  # where this process is killed, the tool ends too


def apptainer(site: Site, step: str, *words: str) -> None:
    """Runs Apptainer; in private namespaces, but for a download, which must know that it is no root."""
    # Layers name many owners. As a plain user Apptainer gives all files to that user; as a namespace's root it fails.
    download = step == "registry"
    limit = REGISTRY_SECONDS if download else STEP_SECONDS
    run(site, step, [*_TIED, *([] if download else _PRIVATE), str(site.apptainer), *words], limit)


def run(site: Site, step: str, argv: Sequence[str], limit_seconds: float = STEP_SECONDS) -> None:
    """Runs one tool in a session of its own; its output goes to a log, of which a failure tells the last line."""
    log = site.caches / f"{step}.log"
    where = site.recipe if step == "installing" else site.work
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=where,
            env=_environment(site, step),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            raise Passing(Code.IMAGE_MISSING, f"{step}: not done after {limit_seconds:.0f} s; see {log}") from None
        finally:
            _end(process)
    if status != 0:
        raise Passing(Code.IMAGE_MISSING, f"{step}: {_last_line(log)} (exit {status}); see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _environment(site: Site, step: str) -> dict[str, str]:
    if step == "wheels":
        return dict(os.environ)  # pip's settings are the user's own
    kept = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy") or key.startswith("SSL_")}
    folders = {"HOME": site.work, "APPTAINER_TMPDIR": site.work, "APPTAINER_CACHEDIR": site.work}
    path = os.environ.get("PATH", os.defpath)
    return {**kept, "PATH": f"{path}:/usr/sbin:/sbin", **{key: str(folder) for key, folder in folders.items()}}


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One build at a time in one store."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def workplace(store: Path, apptainer_path: Path, progress: Progress) -> Iterator[Site]:
    """A private folder beside the store, on its file system, so that keeping is a rename; gone afterwards."""
    for stale in (store / ".build").glob("work-*"):
        remove(stale)  # its build was killed: we hold the lock
    work = Path(tempfile.mkdtemp(prefix="work-", dir=store / ".build"))
    work.chmod(0o755)
    try:
        yield Site(store, work, apptainer_path, progress)
    finally:
        remove(work)


def own_all(folder: Path) -> None:
    """Gives every file to this user: owners that a user namespace does not map cannot be copied in it."""
    for parent, names, files in os.walk(folder):
        for name in [".", *names, *files]:
            os.lchown(os.path.join(parent, name), os.getuid(), os.getgid())


def remove(folder: Path) -> None:
    """Removes an image's tree, which may hold folders that nobody may write."""

    def unlock(function: Callable[..., object], path: str, _error: object) -> None:
        for name in (os.path.dirname(path), path):
            os.chmod(name, 0o700)
        function(path)

    shutil.rmtree(folder, onerror=unlock)
