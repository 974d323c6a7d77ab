"""Which Apptainer is here and what it can do on this node: tried, and noted in a receipt."""

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot.failpoints import effect
from pilot.model.capability import RuntimeFinding
from pilot.model.plain import PlainError, from_plain, to_plain

_CVMFS = "/cvmfs/oasis.opensciencegrid.org/mis/apptainer/bin/apptainer"
_IN_CACHE = "apptainer/current/usr/bin/apptainer"  # where scripts/get-apptainer puts it
# What helpers of Apptainer (newuidmap, squashfuse_ll, fuse-overlayfs) are found with.
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEEDED = ("--containall", "--no-eval", "--workdir", "--home", "--pwd", "--mount")
_FRESH_SECONDS = 86_400.0  # a day: kernels and site settings change without the binary changing
_PATIENCE_SECONDS = 30.0
# The host's own programs, seen read-only in an empty root: so a real start needs no image.
_HOST_FOLDERS = ("/bin", "/lib", "/lib64", "/usr")
_ROOT_FOLDERS = ("bin", "dev", "etc", "home", "lib", "lib64", "proc", "root", "srv", "sys", "tmp", "usr", "var/tmp")


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look: the site's own choice alone, if there is one; else PATH, CVMFS and our cache."""

    configured: str = ""
    path: str = HOST_PATH
    cache: Path | None = None

    def candidates(self) -> list[str]:
        """Every binary that is there, best first."""
        if self.configured:
            return [self.configured]
        places = [f"{folder}/apptainer" for folder in self.path.split(":") if folder.startswith("/")]
        places.append(_CVMFS)
        if self.cache is not None:
            places.append(str(self.cache / _IN_CACHE))
        return [each for each in places if os.access(each, os.X_OK)]


def find(search: Search, receipts: Path) -> RuntimeFinding:
    """What a receipt of less than a day says, else what a new try shows."""
    candidates = search.candidates()
    for each in candidates:
        noted = _noted(receipts, each)
        if noted is not None:
            return noted
    finding = _try_all(candidates, receipts)
    if finding.works:
        _note(receipts, finding)
    return finding


# --- receipts -------------------------------------------------------------------------------------------------------


def _key(path: str) -> list[object]:
    """A receipt counts for this very binary, kernel and user."""
    seen = os.stat(path)
    return [path, seen.st_size, seen.st_mtime_ns, os.uname().release, os.geteuid()]


def _receipt(receipts: Path) -> Path:
    return receipts / f"apptainer-{os.geteuid()}.json"


def _noted(receipts: Path, path: str) -> RuntimeFinding | None:
    try:
        text = json.loads(_receipt(receipts).read_text(encoding="utf-8"))
        fresh = text["key"] == _key(path) and 0 <= time.time() - text["tried"] < _FRESH_SECONDS
        return from_plain(RuntimeFinding, text["finding"]) if fresh else None
    except (OSError, ValueError, KeyError, TypeError, PlainError):
        return None


def _note(receipts: Path, finding: RuntimeFinding) -> None:
    text = {"key": _key(finding.path), "tried": time.time(), "finding": to_plain(finding)}
    final = _receipt(receipts)
    part = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(text), encoding="utf-8")
        with effect("runtime.receipt"):
            os.replace(part, final)
    except OSError:
        part.unlink(missing_ok=True)  # without a receipt the next pilot tries again: slower, not wrong


# --- trying ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one try ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """The last line that says what was wrong."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "FATAL" in line or "ERROR" in line), lines[-1] if lines else "")
        return re.sub(r"^\S*(FATAL|ERROR)\S*\s*:?\s*", "", said) or f"it ended with {self.code}"


@dataclass(frozen=True, slots=True)
class _Bench:
    """A private folder for tries: a home for Apptainer's own files, and an empty root to start in."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def make(self) -> None:
        """Makes the folders."""
        self.home.mkdir()
        for each in _ROOT_FOLDERS:
            (self.root / each).mkdir(parents=True)

    def run(self, argv: Sequence[str]) -> _Outcome:
        """One try, in a clean environment and with a limit."""
        import subprocess  # late: with a receipt at hand no pilot needs it

        try:
            done = subprocess.run(
                argv,
                env={"PATH": HOST_PATH, "LANG": "C", "HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _Outcome(1, "", f"no answer within {_PATIENCE_SECONDS:.0f} s")
        except OSError as error:
            return _Outcome(1, "", str(error.strerror))
        return _Outcome(done.returncode, done.stdout, done.stderr)


def _try_all(candidates: Sequence[str], receipts: Path) -> RuntimeFinding:
    import tempfile  # late, as above

    finding = RuntimeFinding(
        "apptainer", detail="no apptainer on PATH, CVMFS or in the cache: run scripts/get-apptainer"
    )
    try:
        receipts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="probe-", dir=receipts) as folder:
            bench = _Bench(Path(folder))
            bench.make()
            for each in candidates:
                finding = _try(each, bench)
                if finding.works:
                    break
    except OSError as error:
        return RuntimeFinding("apptainer", detail=f"nothing can be tried in {receipts}: {error.strerror}")
    return finding


def _try(path: str, bench: _Bench) -> RuntimeFinding:
    """One binary: its version, its options, a real start with and without user namespaces, and without network."""
    version = bench.run([path, "--version"])
    named = re.search(r"apptainer\D*(\d+\.\d+\S*)", version.stdout)
    if version.code or named is None:
        return RuntimeFinding("apptainer", path, detail=f"{path}: {version.reason if version.code else 'no apptainer'}")
    finding = RuntimeFinding("apptainer", path, named.group(1))
    options = bench.run([path, "exec", "--help"]).stdout
    missing = [each for each in _NEEDED if each not in options]
    if missing:
        return _failed(finding, f"it has no {missing[0]}: too old")
    return _started(finding, bench)


def _started(finding: RuntimeFinding, bench: _Bench) -> RuntimeFinding:
    outcome = _Outcome(1, "", "")
    for flags in (("--userns",), ()):
        outcome = _exec(finding.path, bench, flags)
        if outcome.code == 0:
            alone = _exec(finding.path, bench, (*flags, "--net", "--network", "none"))
            works = alone.code == 0 and _interfaces(alone.stdout) == ["lo"]
            return RuntimeFinding("apptainer", finding.path, finding.version, True, flags, works, _fuse())
    return _failed(finding, outcome.reason)


def _exec(path: str, bench: _Bench, flags: Sequence[str]) -> _Outcome:
    folders = [each for each in _HOST_FOLDERS if os.path.isdir(each)]
    binds = [word for each in folders for word in ("--mount", f"type=bind,src={each},dst={each},ro")]
    flags = [*flags, "--containall", "--no-eval", "--no-home", *binds]
    return bench.run([path, "-q", "exec", *flags, str(bench.root), "/bin/cat", "/proc/net/dev"])


def _interfaces(table: str) -> list[str]:
    return [line.split(":")[0].strip() for line in table.splitlines() if ":" in line]


def _fuse() -> str:
    usable = os.access("/dev/fuse", os.R_OK | os.W_OK)
    return "" if usable else "/dev/fuse cannot be opened: images in SIF form may not start; root: chmod 0666 /dev/fuse"


def _failed(finding: RuntimeFinding, why: str) -> RuntimeFinding:
    return RuntimeFinding("apptainer", finding.path, finding.version, detail=f"{finding.path}: {why}")
