"""`pilot run --job`: one job file becomes a queue of its own."""

import json
from dataclasses import replace
from getpass import getuser
from pathlib import Path

from pilot.cli.exits import Exit, Stop
from pilot.config.jobfile import JobDocument, load_jobs
from pilot.config.problems import ConfigProblems
from pilot.model.queue import QueueSettings, Submission
from pilot.ports import Matcher


def enqueue(file: Path, output: Path, state: Path, matcher: Matcher) -> tuple[str, int]:
    """The URL of the queue that holds the file's jobs, and how many they are."""
    documents = _load(file)
    for each in documents:
        _refuse_existing(each, output)
    path = state / "job.db"
    if not path.exists():
        _fill(path, documents, output, matcher)
    return f"sqlite:{path}", len(documents)


def _load(file: Path) -> list[JobDocument]:
    try:
        return load_jobs(file)
    except ConfigProblems as problems:
        raise Stop("\n".join(problems.lines()), Exit.BAD_JOB) from None


def _refuse_existing(document: JobDocument, output: Path) -> None:
    """An output is never overwritten: better to say so before the work than after it."""
    for each in document.spec.outputs:
        taken = next(iter(output.glob(each.name)), None)
        if taken is not None:
            raise Stop(f"{taken}: exists already; give another --output, or remove it", Exit.DISK)


def _fill(path: Path, documents: list[JobDocument], output: Path, matcher: Matcher) -> None:
    from pilot.queue.settings import write_settings
    from pilot.queue.store import create_store, open_store
    from pilot.queue.users import LocalQueue

    create_store(path)
    store = open_store(path)
    write_settings(store, QueueSettings("default", getuser(), destination=output.absolute().as_uri()))
    queue = LocalQueue(store, matcher, getuser())
    once = [(each, replace(each.spec, attempts=1, max_interruptions=0)) for each in documents]
    queue.add([Submission(spec, each.job_id or "", each.code or b"") for each, spec in once])
    store.close()


def declined(url: str, matcher: Matcher, style: str) -> int:
    """The exit code and one clear line for jobs that nothing here could run; 0 where there are none."""
    from pilot.assemble import queue_path
    from pilot.cli.running import say
    from pilot.model.queue import JobState
    from pilot.queue.store import open_store
    from pilot.queue.users import LocalQueue

    store = open_store(queue_path(url))
    queue = LocalQueue(store, matcher, getuser())
    code = 0
    for row in queue.find((JobState.WAITING,)):
        found = queue.explain(row.job_id)
        why = f"{found.clause}: wanted {found.wanted}, offered {found.offered}"
        line = {"job_id": row.job_id, "attempt": 0, "name": row.name, "verdict": "declined", "detail": why}
        say(json.dumps(line) if style == "json" else f"declined: {row.name}: this slot cannot run it: {why}")
        code = Exit.UNFIT
    store.close()
    return code
