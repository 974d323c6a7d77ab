"""Files in and out, and the sandbox they live in."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from uuid import uuid4

from pilot.failpoints import effect
from pilot.model.facts import Arrived, Stored, Swept
from pilot.model.faults import Code
from pilot.model.files import FileRecord, ImageUsed, Input, Mode, Output, Resume, What
from pilot.model.job import Job, Verdict
from pilot.ports import Abandon, Abandoned, Final, Sandbox
from pilot.shell import generations
from pilot.shell.carried import archive
from pilot.shell.contract import newest_generation
from pilot.shell.crew import Task
from pilot.shell.doors import Doors, House, destination, granted, has_place, sandbox_of, storage_for
from pilot.shell.logbook import archive_of, story_of
from pilot.shell.spares import Spares
from pilot.shell.watch import tree_bytes

_CHECKPOINT = "checkpoint.tar"
_LOGS = ("stdout", "stderr", "pilot")
# Deeper folders, and those with longer paths, are brought up before they are emptied: neither the interpreter nor the
# kernel could reach what a payload can make by changing directory.
_DEEPEST = 100
_LONGEST_PATH = 900  # characters of up to four bytes; the kernel takes 4096 bytes
_KEPT_SHARE = 0.1  # of the free disk, for each sandbox that is kept
_MORE_LOGS = ("validate.stdout", "validate.stderr")  # stored beside the others; the report names only those three


class Staging:
    """Carries out *fetch*, *store*, *store-checkpoint* and *sweep*."""

    def __init__(self, doors: Doors, house: House) -> None:
        self._doors = doors
        self._house = house
        self._spares = Spares(house.scratch.with_name("spare"), remove_tree)

    def close(self) -> None:
        """Nothing more is to be staged."""
        self._spares.close()

    # --- in ------------------------------------------------------------------------------------------------

    def fetch(self, task: Task) -> Arrived:
        """Brings image, code, inputs and checkpoint to the node, verified; what is there already is kept."""
        job, sandbox = task.job, sandbox_of(self._house, task.job)
        if not os.path.lexists(sandbox.root):
            self._spares.take(sandbox.root, granted(job).owner)
        _make(sandbox)
        image = self._image(job)
        self._code(task, sandbox)
        inputs = tuple(self._input(each, sandbox, task.abandoned) for each in job.spec.inputs)
        self._restore(job, sandbox, task.abandoned)
        return Arrived(task.order.key, task.order.ticket, image, inputs)

    def _image(self, job: Job) -> ImageUsed | None:
        if self._house.bare:
            return None
        if not job.spec.image:
            raise Final(Code.JOB_INVALID, "the job names no image, and this pilot runs jobs in containers only")
        return self._doors.images.resolve(job.spec.image, job.spec.image_sha256)

    def _code(self, task: Task, sandbox: Sandbox) -> None:
        pack = task.job.spec.code
        if pack is None or any(sandbox.code.iterdir()):
            return
        part = sandbox.root / "code.part"
        shutil.rmtree(part, ignore_errors=True)
        self._doors.unpack(archive(self._doors.server, pack, task), pack.sha256, part)
        with effect("staging.code"):
            os.rename(part, sandbox.code)

    def _input(self, wanted: Input, sandbox: Sandbox, abandon: Abandon) -> FileRecord:
        if wanted.mode is Mode.STREAM:
            raise Final(Code.JOB_INVALID, f"{wanted.name}: mode stream is not offered by this pilot")
        if not _stays_below(wanted.name):
            raise Final(Code.JOB_INVALID, f"input {wanted.name!r}: write a name relative to the working directory")
        target = sandbox.inputs / wanted.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        found = storage_for(self._doors, wanted.url).fetch(wanted.url, target, abandon)
        _verify(wanted, found)
        target.chmod(0o444)
        return found

    def _restore(self, job: Job, sandbox: Sandbox, abandon: Abandon) -> None:
        resume, marker = granted(job).resume, sandbox.pilot / "restored"
        if resume is None or newest_generation(sandbox):
            return
        archive = sandbox.pilot / _CHECKPOINT
        archive.unlink(missing_ok=True)
        found = storage_for(self._doors, resume.url).fetch(resume.url, archive, abandon)
        if found.sha256 != resume.sha256:
            raise Final(Code.STAGE_IN_CHECKSUM, f"checkpoint {resume.url}: sha256 is not the recorded one")
        part = sandbox.root / "checkpoint.part"
        shutil.rmtree(part, ignore_errors=True)
        generations.unpack(archive, part)
        archive.unlink()
        marker.write_text("\n".join(each.name for each in part.iterdir()))
        with effect("staging.restore"):  # at once: half a generation would look like a whole one
            os.rename(part, sandbox.work / "checkpoint")

    # --- out -----------------------------------------------------------------------------------------------

    def store(self, task: Task) -> Stored:
        """Stores what the order names: outputs, a checkpoint, or nothing; and always the logs, one by one and whole."""
        job, sandbox, abandon = task.job, sandbox_of(self._house, task.job), task.abandoned
        outputs: tuple[FileRecord, ...] = ()
        resume: Resume | None = None
        if task.order.what is What.ALL:
            outputs = self._outputs(job, sandbox, abandon)
        elif task.order.what is What.CHECKPOINT:
            resume = self._checkpoint(job, sandbox, abandon)
        logs, archive = self._logs(job, sandbox, abandon), self._archive(job, sandbox, abandon)
        return Stored(task.order.key, task.order.ticket, outputs, logs, resume, archive)

    def store_checkpoint(self, task: Task) -> Stored:
        """Stores a checkpoint of a payload that goes on running."""
        sandbox = sandbox_of(self._house, task.job)
        resume = self._checkpoint(task.job, sandbox, task.abandoned)
        return Stored(task.order.key, task.order.ticket, resume=resume)

    def _outputs(self, job: Job, sandbox: Sandbox, abandon: Abandon) -> tuple[FileRecord, ...]:
        found: dict[str, tuple[Path, str]] = {}
        for wanted in job.spec.outputs:
            matched = self._doors.collect(sandbox.work, (wanted,))
            _check_place(wanted, matched)
            for name, path in matched:
                found.setdefault(name, (path, destination(self._house, job, wanted, name)))
        return tuple(self._store_one(name, path, url, abandon) for name, (path, url) in found.items())

    def _store_one(self, name: str, path: Path, url: str, abandon: Abandon) -> FileRecord:
        if abandon():
            raise Abandoned(Code.PILOT_DEADLINE, name)
        stored = storage_for(self._doors, url).store(path, url, abandon)
        return FileRecord(name, stored.url, stored.bytes, stored.adler32, stored.sha256)

    def _checkpoint(self, job: Job, sandbox: Sandbox, abandon: Abandon) -> Resume | None:
        newest = newest_generation(sandbox)
        if not newest or not granted(job).destination:
            return None
        archive = sandbox.pilot / _CHECKPOINT
        if not generations.pack(sandbox.work, newest, archive):
            return None
        name = f"checkpoint/{newest}.tar"
        stored = self._store_one(name, archive, self._beside(job, name), abandon)
        archive.unlink()
        return Resume(stored.url, stored.sha256, stored.bytes, granted(job).attempt)

    def _logs(self, job: Job, sandbox: Sandbox, abandon: Abandon) -> tuple[FileRecord, ...]:
        """The logs that hold anything, stored where the outputs go; without a destination they stay in the report."""
        if not granted(job).destination:
            return ()
        paths = {name: sandbox.logs / name for name in (*_MORE_LOGS, *_LOGS)}
        paths["pilot"] = story_of(paths["pilot"], sandbox.pilot)
        full = [(name, path) for name, path in paths.items() if path.exists() and path.stat().st_size]
        stored = [self._log(job, name, path, abandon) for name, path in full]
        return tuple(each for each in stored if each.name in _LOGS)

    def _log(self, job: Job, name: str, path: Path, abandon: Abandon) -> FileRecord:
        stored = self._store_one(name, path, self._beside(job, f"logs/{name}.log"), abandon)
        return FileRecord(name, stored.url, stored.bytes, stored.adler32, stored.sha256)

    def _beside(self, job: Job, name: str) -> str:
        """Where a file of ours goes: with the outputs that name no folder of their own."""
        return destination(self._house, job, Output(name), name)

    def _archive(self, job: Job, sandbox: Sandbox, abandon: Abandon) -> FileRecord | None:
        """All logs as one archive, where the job asks for it and there is a place for it."""
        wanted = job.spec.log_archive
        if wanted is None or not has_place(job, wanted):
            return None
        archive = archive_of(job, sandbox, (*_LOGS, *_MORE_LOGS))
        return self._store_one(wanted.name, archive, destination(self._house, job, wanted, wanted.name), abandon)

    # --- away ----------------------------------------------------------------------------------------------

    def sweep(self, task: Task) -> Swept:
        """Removes the sandbox; that of a failed job is kept for `pilot job shell`, up to a few."""
        sandbox = sandbox_of(self._house, task.job)
        with effect("staging.sweep"):
            if task.job.verdict is Verdict.FAILED and self._house.keep_failed and _small(sandbox.root):
                self._keep(sandbox)
            if not (_clean_end(task.job) and self._spares.keep(sandbox.root, granted(task.job).owner)):
                remove_tree(sandbox.root)
        return Swept(task.order.key, task.order.ticket)

    def _keep(self, sandbox: Sandbox) -> None:
        self._house.kept.mkdir(parents=True, exist_ok=True)
        target = self._house.kept / sandbox.root.name
        remove_tree(target)
        remove_tree(sandbox.tmp)
        with effect("staging.keep"):
            os.rename(sandbox.root, target)
        kept = sorted(self._house.kept.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in kept[: -self._house.keep_failed]:
            remove_tree(old)


def _check_place(wanted: Output, matched: Sequence[tuple[str, Path]]) -> None:
    """An exact place takes one file: not several, and not what a folder of that name holds."""
    if wanted.url and any(name.startswith(f"{wanted.name.rstrip('/')}/") for name, _ in matched):
        raise Final(Code.OUTPUT_MISSING, f"{wanted.name}: it is a directory, and a file is wanted; pack it")
    if wanted.url and len(matched) > 1:
        raise Final(Code.OUTPUT_NAME, f"{wanted.name}: {len(matched)} files, and one place for them")


def _clean_end(job: Job) -> bool:
    """Whether nothing of the job can still be at work in its sandbox."""
    return job.verdict is Verdict.SUCCEEDED and not job.tainted


def _small(root: Path) -> bool:
    """Whether it is there, and small beside the room that other jobs were promised."""
    if not root.exists():
        return False
    free = os.statvfs(root)
    return tree_bytes(root) <= _KEPT_SHARE * free.f_bavail * free.f_frsize


def _make(sandbox: Sandbox) -> None:
    sandbox.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (sandbox.work, sandbox.home, sandbox.tmp, sandbox.inputs, sandbox.pilot, sandbox.logs, sandbox.code):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, 0o700)


def _stays_below(name: str) -> bool:
    """Whether a name cannot lead out of its folder: asked here too, because the queue may be a stranger's."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and name.isprintable()


def _verify(wanted: Input, found: FileRecord) -> None:
    if wanted.size is not None and found.bytes != wanted.size:
        code = Code.STAGE_IN_TRUNCATED if found.bytes < wanted.size else Code.STAGE_IN_CHECKSUM
        raise Final(code, f"{wanted.url}: {found.bytes} bytes, expected {wanted.size}")
    for name in ("adler32", "sha256"):
        expected, seen = getattr(wanted, name), getattr(found, name)
        if expected and expected != seen:
            raise Final(Code.STAGE_IN_CHECKSUM, f"{wanted.url}: {name} is {seen}, expected {expected}")


def remove_tree(path: Path) -> None:
    """Removes a tree whatever modes a payload gave its directories, and however deep; links are never followed.

    Its payload is gone, so nobody moves things meanwhile; plain and quick, because every job ends with it.
    """
    top = os.fspath(path)
    while os.path.lexists(top):
        _empty(top, top)
        with contextlib.suppress(FileNotFoundError):
            _remove(top)


def _remove(top: str) -> None:
    try:
        os.rmdir(top)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # not empty: deep folders have come up, and have their turn now
            raise


def _empty(folder: str, top: str, depth: int = 0) -> None:
    for entry in _listed(folder):
        if not entry.is_dir(follow_symlinks=False):
            _insist(os.unlink, entry.path)
        elif depth < _DEEPEST and len(entry.path) < _LONGEST_PATH:
            _empty(entry.path, top, depth + 1)
            _insist(os.rmdir, entry.path)
        else:
            _insist(lambda each: _bring_up(each, top), entry.path)


def _bring_up(folder: str, top: str) -> None:
    os.chmod(folder, 0o700)
    with effect("staging.bring-up"):
        os.rename(folder, f"{top}/{uuid4().hex}")


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except PermissionError:
        os.chmod(folder, 0o700)
        return list(os.scandir(folder))


def _insist(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except PermissionError:
        os.chmod(os.path.dirname(path), 0o700)
        remove(path)
