"""`pilot run --job`: one job file becomes a queue of its own."""

import json
from datetime import UTC, datetime
from pathlib import Path

from pilot.assemble.submission import add_alone, begun, left_waiting, read_jobs
from pilot.cli.exits import Exit, Stop
from pilot.cli.queue_text import offered, wanted
from pilot.cli.say import say
from pilot.cli.who import user
from pilot.config.home import full_path
from pilot.model.faults import Code, fault
from pilot.model.job import Verdict
from pilot.model.plain import full_plain
from pilot.model.queue import Explanation, Submission
from pilot.model.report import Report

_LOGS = ("logs/std*.log", "logs/pilot.log", "logs/validate.*.log")


def enqueue(file: Path, output: Path, state: Path) -> str:
    """The URL of a queue that holds the file's one job."""
    jobs = read_jobs(file)
    if len(jobs) != 1:
        raise Stop(f"{file}: holds {len(jobs)} jobs; --job runs one, `pilot queue add` takes them all", Exit.BAD_JOB)
    [job], place = jobs, state / "job.db"
    open_jobs = begun(place, user())
    if open_jobs == [job.spec.name]:
        return f"sqlite:{place}"  # an earlier pilot died with it, or could not store its outputs: it goes on
    if open_jobs:
        raise Stop(f"{state}: holds the unfinished job {open_jobs[0]!r}; give another --state", Exit.LATER)
    _refuse_existing(job, output)
    return add_alone(job, place, full_path(output).as_uri(), user())


def _refuse_existing(job: Submission, output: Path) -> None:
    """Nothing is overwritten, logs no more than outputs: better to say so before the work than after it."""
    for name in (*(each.name for each in job.spec.outputs), *_LOGS):
        taken = next(iter(output.glob(name)), None)
        if taken is not None:
            raise Stop(f"{taken}: exists already; give another --output, or remove it", Exit.DISK)


def declined(url: str, style: str) -> int:
    """The exit code and the report of jobs that nothing here could run; 0 where there are none."""
    left = left_waiting(url, user())
    for name, found in left:
        why = f"this slot cannot run it: {found.clause}: wanted {wanted(found)}, offered {offered(found)}"
        say(_as_json(name, found, why) if style == "json" else f"declined: {name}: {why}")
    return Exit.NOT_SUCCEEDED if left else Exit.OK


def _as_json(name: str, found: Explanation, why: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    report = Report(found.job_id, 0, name, Verdict.DECLINED, now, now, fault=fault(Code.SLOT_UNFIT, why))
    return json.dumps(full_plain(report))
