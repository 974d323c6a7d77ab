"""A job as server and user are told: the dossier of what was seen, and the report drawn from it."""

import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime

from pilot.core.outcome import signal_of
from pilot.model import facts
from pilot.model.copies import replace
from pilot.model.facts import Ending, Fact
from pilot.model.faults import Fault
from pilot.model.files import FileRecord, ImageUsed, Resume
from pilot.model.job import Job, Phase, Share, Verdict
from pilot.model.report import Isolation, Logs, Report, Seconds

# After "token:" and "bearer" a word of these begins or goes on with a sentence about a credential; so does a number.
_SENTENCE = r"""(?!["']?(?:[\d.,]{1,9}|an?|and|are|auth|authenticat\w+|authori[sz]\w+|bad|cannot|credentials?|denied|
    empty|error|expected|expired|failed|file|header|invalid|is|it|missing|must|no|none|not|null|of|or|permission|refused|
    required|scheme|the|tokens?|unexpected|unknown|was|wrong)["'.,;:!?)\]}]*(?:\s|$))"""
_RANDOM = r"""["']?(?=\S*\d)(?=\S*[a-z])[\w.~+=-][\w.~+/=-]{15,}"""
_SECRET = re.compile(
    rf"""(?xi)
    authorization[\\"']*\s*[=:]\s*[\\"']*(?:(?:basic|bearer|digest|negotiate|token)\s+)?{_SENTENCE}\S+
    | bearer\s+{_SENTENCE}\S+
    | (?<![/.])token[\\"']*\s*(?:=>|[=:]+)\s*{_SENTENCE}(?:\\*"[^"]*"?|\\*'[^']*'?|\S+)
    | token[\\"']*\s*(?:=>|[=:]+)?\s*{_RANDOM}
    | eyJ[\w-]{{8,1024}}+\.[\w-]{{8,}}+\.[\w-]*
    """
)
_PHASES = frozenset(each.name for each in fields(Seconds))


@dataclass(frozen=True, slots=True)
class Dossier:
    """What has been seen of one attempt. `seconds` sums up the phases left; `since` is when the present one began."""

    started: float = 0.0
    ended: float = 0.0
    since: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    share: Share = field(default_factory=Share)
    image: ImageUsed | None = None
    inputs: tuple[FileRecord, ...] = ()
    ending: Ending | None = None
    validated: bool | None = None
    outputs: tuple[FileRecord, ...] = ()
    logs: tuple[FileRecord, ...] = ()
    archive: FileRecord | None = None
    resume: Resume | None = None


def note(dossier: Dossier, fact: Fact, wall: float) -> Dossier:
    """The dossier with what that fact adds; `wall` in seconds since the epoch."""
    match fact:
        case facts.Granted():
            return replace(dossier, started=wall)
        case facts.Go(share=share):
            return replace(dossier, share=share)
        case facts.Arrived(image=image, inputs=inputs):
            return replace(dossier, image=image, inputs=inputs)
        case facts.Exited(ending=ending):
            return replace(dossier, ending=ending, ended=wall)
        case facts.Validated(valid=valid):
            return replace(dossier, validated=valid)
        case facts.Stored(outputs=outputs, logs=logs, resume=resume, archive=archive):
            return replace(dossier, outputs=outputs, logs=logs, archive=archive, resume=resume or dossier.resume)
    return dossier


def passed(dossier: Dossier, before: Phase, after: Phase, mono: float) -> Dossier:
    """The dossier after a step of the machine: a phase that was left is given its time, in monotonic seconds."""
    if before is after or before not in _PHASES:
        return dossier
    spent = getattr(dossier.seconds, before) + max(0.0, mono - dossier.since)
    return replace(dossier, since=mono, seconds=replace(dossier.seconds, **{before.value: round(spent, 6)}))


def draw_report(job: Job, dossier: Dossier, isolation: Isolation, pilot_id: str, wall: float) -> Report:
    """The report of a closed job; raises LookupError for one that was never granted."""
    if job.grant is None:
        raise LookupError(f"{job.key}: not granted")
    ending = dossier.ending or Ending()
    return Report(
        job_id=job.grant.job_id,
        attempt=job.grant.attempt,
        name=job.spec.name,
        verdict=job.verdict or Verdict.FAILED,
        started=iso(dossier.started),
        ended=iso(dossier.ended or wall),
        exit_code=ending.exit_code,
        signal=signal_of(ending),
        fault=None if job.verdict is Verdict.SUCCEEDED or job.fault is None else _cleaned(job.fault),
        seconds=dossier.seconds,
        usage=ending.usage,
        image=dossier.image,
        share=dossier.share,
        isolation=isolation,
        outputs=dossier.outputs,
        logs=_logs(dossier.logs),
        archive=dossier.archive,
        validated=dossier.validated,
        resume=dossier.resume,
        pilot_id=pilot_id,
        receipt=job.grant.receipt,
        message=clean(ending.result_message),
    )


def _logs(records: tuple[FileRecord, ...]) -> Logs:
    return Logs(**{each.name: each.url for each in records})


def _cleaned(fault: Fault) -> Fault:
    """Details quote payloads, which print what they like."""
    return replace(fault, detail=clean(fault.detail))


def clean(text: str) -> str:
    """The text without control characters and without anything that looks like a credential."""
    plain = text if text.isprintable() else "".join(each for each in text if each.isprintable() or each in "\n\t")
    return _SECRET.sub("[removed]", plain)


def iso(wall: float) -> str:
    """UTC, ISO 8601, to the millisecond; `wall` in seconds since the epoch."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
