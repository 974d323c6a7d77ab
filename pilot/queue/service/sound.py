"""What a job must be like to be taken, and to be given: sound, and no more than one reply can carry."""

import json
from collections.abc import Sequence
from dataclasses import replace

from pilot.model.faults import Code, fault
from pilot.model.job import Grant, JobSpec
from pilot.model.plain import to_plain
from pilot.model.queue import JobView, Submission
from pilot.ports import Final, Queue
from pilot.wire.calls import JOB_CAP
from pilot.wire.envelope import fits

NAME_LETTERS = 200
ATTEMPTS_CAP = 10_000
TOO_LARGE = f"its description is more than {JOB_CAP.octets >> 20} MiB, or {JOB_CAP.values} values: name files in a list"


def check(spec: JobSpec) -> None:
    """What the job file's own check lets nobody write, whoever speaks to us."""
    problem = (
        "it has no name" if not spec.name
        else "its name is too long, or not printable" if len(spec.name) > NAME_LETTERS or not spec.name.isprintable()
        else "it has no command" if not spec.command
        else "it asks for nothing; one block of needs at least" if not spec.needs
        else "attempts: between 1 and 10000" if not 1 <= spec.attempts <= ATTEMPTS_CAP
        else TOO_LARGE if not _carried(spec)
        else ""
    )  # fmt: skip
    if problem:
        raise Final(Code.JOB_INVALID, f"job {spec.name[:40]!r}: {problem}")


def check_after(queue: Queue, jobs: Sequence[Submission]) -> None:
    """A job waits for jobs that its owner can see: of others it would learn how they ended."""
    own = {name for each in jobs for name in (each.job_id, each.spec.name)}
    for wanted in {name for each in jobs for name in each.spec.after} - own:
        queue.show(wanted)


def carried(grant: Grant | None) -> Grant | None:
    """The grant; for a job that no reply can carry, one that the pilot declines with the reason."""
    if grant is None or _carried(grant):
        return grant
    spec = JobSpec(name=grant.spec.name[:NAME_LETTERS], command=("unknown",))
    return replace(grant, spec=spec, resume=None, refusal=fault(Code.JOB_INVALID, TOO_LARGE))


def newest(view: JobView) -> JobView:
    """The view with as many of the newest reports as one reply can carry; `results` has all of them."""
    reports = view.reports
    while reports and not _carried(replace(view, reports=reports)):
        reports = reports[(len(reports) + 1) // 2 :]
    return replace(view, reports=reports)


def _carried(value: object) -> bool:
    return fits(json.dumps(to_plain(value), ensure_ascii=False).encode("utf-8", "replace"), JOB_CAP)
