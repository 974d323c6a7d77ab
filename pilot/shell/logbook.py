"""All logs of one job as one archive: the same logs give the same bytes, because storage takes a name only once."""

import gzip
import os
import shutil
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

from pilot.failpoints import effect
from pilot.model.job import Job, Verdict
from pilot.ports import Sandbox

ARCHIVE, STORY = "logs.tgz", "pilot.log"  # in the sandbox, beside what else is ours


def archive_of(job: Job, sandbox: Sandbox, names: Sequence[str]) -> Path:
    """The archive; one that was made already is kept, so that a retry stores what it holds."""
    made = sandbox.pilot / ARCHIVE
    if not made.exists():
        part = made.with_suffix(".part")
        if job.verdict is Verdict.DECLINED:
            _write_reason(job, sandbox)
        _write(sandbox.logs, names, part)
        with effect("staging.log-archive"):
            os.replace(part, made)
    return made


def story_of(log: Path, place: Path) -> Path:
    """The pilot's part of the log as it was when it was first to be stored: the log itself goes on."""
    made = place / STORY
    if log.exists() and not made.exists():
        part = made.with_suffix(".part")
        shutil.copyfile(log, part)
        with effect("staging.story"):
            os.replace(part, made)
    return made


def _write_reason(job: Job, sandbox: Sandbox) -> None:
    """Why a job was declined, in place of the log that it never had; nor had it a sandbox."""
    for each in (sandbox.root, sandbox.pilot, sandbox.logs):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    why, log = job.fault, sandbox.logs / "pilot"
    if why is not None and not log.exists():
        log.write_text(f"{why.code.value}: {why.message}: {why.detail}\nwhat helps: {why.remedy}\n")


def _write(logs: Path, names: Sequence[str], part: Path) -> None:
    """Without times, owners and the archive's own name in it."""
    with (
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            _add(tar, logs / name, f"{name}.log")


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """A regular file, as much as there is when it is opened; without a container a payload may put a link there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        seen = os.fstat(descriptor)
        if stat.S_ISREG(seen.st_mode):
            member = tarfile.TarInfo(name)
            member.size, member.mode = seen.st_size, 0o644
            tar.addfile(member, file)
