"""What `pilot doctor` looks at on the node: each check tries the thing itself where it can."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilot.model.capability import RuntimeFinding
from pilot.model.check import Check, Status
from pilot.model.faults import Code

GIB = 1 << 30
LITTLE_SCRATCH = 5 * GIB  # an image, its unpacked form and a small data set
PATIENCE_SECONDS = 20.0
SKEW_SECONDS = 5.0
RELEASED = 1_790_000_000  # autumn 2026: a clock before that is wrong

# From these on, archives cannot lead tarfile's own filter astray (CVE-2025-4517 and its family).
_SAFE_TARFILE = {(3, 11): 13, (3, 12): 11, (3, 13): 4}

OLDEST_APPTAINER = (1, 3, 2)
# Advisories that matter to a pilot: fixed in, only with setuid, what it is.
ADVISORIES = (
    ((1, 1, 2), False, "CVE-2022-39237 (signature checks)"),
    ((1, 1, 6), False, "CVE-2022-23538 (library token leaks)"),
    ((1, 1, 8), True, "CVE-2023-30549 (kernel file systems)"),
    ((1, 2, 1), True, "GHSA-mmx5-32m4-wxvx (privileges not dropped)"),
    ((1, 3, 2), False, "CVE-2024-3727 (digests of pulled images)"),
    ((1, 4, 5), False, "CVE-2025-65105 (--security without effect)"),
    ((1, 5, 1), True, "CVE-2026-48785 (limit container paths)"),
)


def python(version: tuple[int, int, int] = sys.version_info[:3]) -> Check:
    """The interpreter that the pilot runs on."""
    said = ".".join(map(str, version))
    if version < (3, 11, 0):
        return Check("python", Status.FAIL, Code.PILOT_BUG, said, "use Python 3.11 or newer")
    least = _SAFE_TARFILE.get(version[:2])
    if least is not None and version[2] < least:
        detail = f"{said}: tarfile's own filter can be bypassed (CVE-2025-4517); the pilot checks archives itself"
        return Check("python", Status.WARN, "", detail, f"use Python {version[0]}.{version[1]}.{least} or newer")
    return Check("python", Status.OK, "", said)


def user_namespaces(root: Path = Path("/")) -> Check:
    """Whether an ordinary user may make a user namespace: tried, and if not, which setting forbids it."""
    name = "user-namespaces"
    try:
        tried = subprocess.run(
            ["unshare", "--user", "--map-root-user", "true"], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
    except FileNotFoundError:
        return Check(name, Status.SKIP, "", "no `unshare` here to try it with", "install util-linux")
    except subprocess.TimeoutExpired:
        return Check(name, Status.FAIL, Code.RUNTIME_FAILED, "unshare did not end", "look at the kernel's log")
    if tried.returncode == 0:
        return Check(name, Status.OK, "", "work")
    said = tried.stderr.decode("utf-8", "replace").strip() or f"unshare ended with {tried.returncode}"
    return Check(name, Status.FAIL, Code.RUNTIME_FAILED, said, _namespace_remedy(root))


_SWITCHES = {
    "user/max_user_namespaces": "0",
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}


def _namespace_remedy(root: Path) -> str:
    """Names the switch that stands the wrong way."""
    for switch, closed in _SWITCHES.items():
        path = root / "proc/sys" / switch
        if path.exists() and path.read_text().strip() == closed:
            return (
                f"the site sets {switch.replace('/', '.')} to another value than {closed}, or installs Apptainer setuid"
            )
    return "ask the site to allow unprivileged user namespaces, or to install Apptainer setuid"


def fuse(device: Path = Path("/dev/fuse")) -> Check:
    """Whether image files can be mounted; directories run without."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = "use images unpacked to directories, or ask the site for access to /dev/fuse"
        return Check("fuse", Status.WARN, "", f"{device}: {error.strerror}", remedy)
    return Check("fuse", Status.OK, "", f"{device} opens")


# --- Apptainer -----------------------------------------------------------------------------------------------


def apptainer_version(finding: RuntimeFinding) -> Check:
    """The version against the advisories that matter here."""
    name = "apptainer"
    if not finding.path:
        remedy = "scripts/get-apptainer fetches one without root; or ask the site"
        return Check(name, Status.FAIL, Code.RUNTIME_MISSING, finding.detail or "none found", remedy)
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", finding.version)
    if numbers is None:
        return Check(name, Status.WARN, "", f"{finding.path}: cannot tell its version from {finding.version!r}")
    version = (int(numbers[1]), int(numbers[2]), int(numbers[3]))
    setuid = _is_setuid(Path(finding.path))
    known = [what for fixed, only_setuid, what in ADVISORIES if version < fixed and (setuid or not only_setuid)]
    said = f"{finding.version} at {finding.path}{', setuid' if setuid else ''}"
    if version < OLDEST_APPTAINER:
        return Check(name, Status.FAIL, Code.RUNTIME_MISSING, f"{said}: {'; '.join(known)}", "update Apptainer")
    if known:
        return Check(name, Status.WARN, "", f"{said}: {'; '.join(known)}", "update Apptainer")
    return Check(name, Status.OK, "", said)


def _is_setuid(binary: Path) -> bool:
    """Whether the installation beside this binary has a setuid starter that root owns."""
    for folder in (binary.parent.parent / "libexec", *binary.parent.parent.glob("lib*/*")):
        starter = folder / "apptainer/bin/starter-suid"
        if starter.exists() and starter.stat().st_mode & 0o4000 and starter.stat().st_uid == 0:
            return True
    return False


def container(finding: RuntimeFinding) -> Check:
    """Whether a container really starts."""
    if finding.works:
        said = f"starts{' with ' + ' '.join(finding.flags) if finding.flags else ''}"
        return Check("container", Status.OK, "", said)
    code = Code.RUNTIME_FAILED if finding.path else Code.RUNTIME_MISSING
    return Check("container", Status.FAIL, code, finding.detail or "does not start", "see the lines above")


def network(finding: RuntimeFinding) -> Check:
    """Whether a job can be kept from the network."""
    if not finding.works:
        return Check("network", Status.SKIP, "", "no container starts")
    if finding.network_none:
        return Check("network", Status.OK, "", "jobs can be kept from it")
    detail = "`network: none` cannot be had here: payloads see the host's network, and reports say so"
    return Check("network", Status.WARN, "", detail, "ask the site to allow network namespaces")


# --- places --------------------------------------------------------------------------------------------------


def scratch(place: Path) -> Check:
    """Room for sandboxes, and that they can be made."""
    problem = _write_problem(place)
    if problem:
        return Check("scratch", Status.FAIL, Code.SCRATCH_FULL, problem, "choose another with PILOT_SCRATCH")
    status = os.statvfs(nearest(place))
    free = status.f_bavail * status.f_frsize
    said = f"{free / GIB:.1f} GiB free in {place}"
    if free < LITTLE_SCRATCH:
        return Check("scratch", Status.WARN, "", said, "clean it, or choose another with PILOT_SCRATCH")
    return Check("scratch", Status.OK, "", said)


def state(place: Path) -> Check:
    """The journal must be written and synced."""
    problem = _write_problem(place)
    if problem:
        return Check("state", Status.FAIL, Code.SCRATCH_FULL, problem, "choose another with --state or PILOT_STATE")
    return Check("state", Status.OK, "", f"{place} can be written")


def nearest(place: Path) -> Path:
    """The directory itself, or the one below which it would be made."""
    return next(each for each in (place, *place.parents) if each.exists())


def _write_problem(place: Path) -> str:
    """Why a file cannot be made and synced there; "" if it can. A place that is to be made is judged by its parent."""
    there = nearest(place)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".pilot-doctor-") as stream:
            stream.write(b"x")
            stream.flush()
    except OSError as error:
        return f"{there}: {error.strerror}"
    return ""


def clock(place: Path) -> Check:
    """The clock against the time of our release, and against what the file system notes."""
    now = time.time()
    if now < RELEASED:
        return Check("clock", Status.FAIL, "", "is years behind", "set the clock; tokens and leases depend on it")
    there = nearest(place)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".pilot-doctor-") as stream:
            skew = os.fstat(stream.fileno()).st_mtime - now
    except OSError as error:
        return Check("clock", Status.SKIP, "", f"{there}: {error.strerror}")
    if abs(skew) > SKEW_SECONDS:
        return Check("clock", Status.WARN, "", f"{there} is {skew:+.0f} s away from this machine", "set both clocks")
    return Check("clock", Status.OK, "", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))


def binds(sources: Sequence[str]) -> Check:
    """The site's directories: a payload does not start where one of them is not there."""
    gone = [each for each in sources if not Path(each).exists()]
    if gone:
        remedy = "correct `binds` in the configuration"
        return Check("binds", Status.FAIL, Code.RUNTIME_FAILED, f"{', '.join(gone)}: not there", remedy)
    return Check("binds", Status.OK, "", ", ".join(sources) or "none")


def inherited(environment: Mapping[str, str]) -> Check:
    """Variables that would steer other people's containers; the pilot drops them, but somebody set them."""
    found = sorted(
        each for each in environment if each.startswith(("APPTAINER_BIND", "SINGULARITY_BIND", "LD_PRELOAD"))
    )
    if found:
        return Check("environment", Status.WARN, "", f"{', '.join(found)} set; payloads do not see it", "unset it")
    return Check("environment", Status.OK, "", "nothing that would steer containers")
