"""How the queue's answers are printed: for people, or as JSON."""

import json
from collections.abc import Callable, Sequence

from pilot.cli.say import one_line, say_aside
from pilot.cli.say import say as say_line
from pilot.model.faults import Fault, Party
from pilot.model.job import Verdict
from pilot.model.plain import full_plain
from pilot.model.queue import Explanation, JobRow, JobState, JobView, QueueSettings


def say(text: str) -> None:
    """To standard output, which is the user's."""
    if text:
        say_line(text)


def print_settings(settings: QueueSettings, style: str) -> None:
    """A queue, as text or JSON."""
    if style == "json":
        say(json.dumps(full_plain(settings)))
    else:
        shown = full_plain(settings)
        assert isinstance(shown, dict)
        say("\n".join(f"{key}: {value}" for key, value in shown.items()))


def print_rows(rows: Sequence[JobRow], style: str) -> None:
    """Jobs, one to a line, or as JSON."""
    if style == "json":
        say(json.dumps([full_plain(each) for each in rows]))
    else:
        say(_table([("JOB", "ATTEMPT", "STATE", "VERDICT", "OWNER", "NAME"), *map(_cells, rows)]))


def ended(row: JobRow) -> str:
    """What came of the wish to end that job."""
    if row.state is JobState.GRANTED:
        return "running; it has been asked to end, and hears it with its pilot's next heartbeat"
    return "done: cancelled" if row.verdict == Verdict.CANCELLED else f"done: {row.verdict} already, nothing to end"


def kept_back(row: JobRow) -> str:
    """What came of the wish to hold that job."""
    if row.state is JobState.GRANTED:
        return "running; this attempt runs on, and no other one begins"
    return f"done: {row.verdict} already, nothing to hold" if row.state is JobState.DONE else ""


def given_free(row: JobRow) -> str:
    """What came of the wish to release that job."""
    return f"done: {row.verdict} already, nothing to release" if row.state is JobState.DONE else ""


def note_rows(rows: Sequence[JobRow], came: Callable[[JobRow], str], style: str) -> None:
    """Aside, for people: where a wish came to nothing, or will be heard later."""
    for each in rows if style == "text" else ():
        said = came(each)
        if said and said != "done: cancelled":
            say_aside(f"{each.name} ({each.job_id}): {said}")


def _cells(row: JobRow) -> tuple[str, ...]:
    cells = row.job_id, str(row.attempt), row.state, row.verdict or "-", row.owner, row.name
    return tuple(map(one_line, cells))


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(each.rstrip() for each in padded)


def view_plain(view: JobView) -> dict[str, object]:
    """The job's row, and beside it all the rest."""
    plain = full_plain(view)
    assert isinstance(plain, dict)
    row = plain.pop("job")
    return {**row, **plain}


def view_text(view: JobView) -> str:
    """One job for people: what is empty is left out."""
    shown = [(key, value) for key, value in view_plain(view).items() if value not in ("", [], None) and key != "spec"]
    lines = [f"{key}: {one_line(_words(value))}" for key, value in shown if key not in ("reports", "fault")]
    if view.fault is not None:
        lines.append(f"fault: {view.fault.code}: {said_of(view.fault)}")
    lines.append(f"command: {' '.join(view.spec.command)}")
    for each in view.reports:
        why = f": {each.fault.code}: {each.fault.detail or each.fault.message}" if each.fault else ""
        lines.append(f"attempt {each.attempt}: {each.verdict}{why}, {each.seconds.running:.1f}s running")
        lines += [f"  {record.name}  {record.url}" for record in each.outputs]
    return "\n".join(lines)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def said_of(fault: Fault) -> str:
    """What was seen and what helps; a line about the queue or a credential says both itself."""
    seen = fault.detail or fault.message
    return seen if fault.party is Party.SERVICE and "; " in seen else f"{seen}; {fault.remedy}"


_UNITS = {"Memory": 1 << 20, "Disk": 1 << 10, "GPUs_GlobalMemoryMb": 1 << 20}  # what HTCondor counts these in


_FREE = frozenset({"Cpus", "Memory", "Disk", "GPUs"})  # an offer is the free part of a slot


def wanted(found: Explanation) -> str:
    """What the job wants, as a person reads it."""
    return _with_unit(found.attribute, found.wanted)


def offered(found: Explanation) -> str:
    """What was offered, as a person reads it."""
    return _with_unit(found.attribute, found.offered)


def _with_unit(attribute: str, value: str) -> str:
    if attribute == "SecondsLeft" and value.isdigit():
        return f"{value} s"
    if attribute not in _UNITS or not value.isdigit():
        return value
    size = int(value) * _UNITS[attribute]
    return f"{size / 2**30:.3g} GiB" if size >= 1 << 30 else f"{size / 2**20:.3g} MiB"


def explanation_text(found: Explanation) -> str:
    """The reason in one line, and the offer that came nearest in another."""
    about = "" if found.attribute == found.clause else f" {found.attribute}:"
    seen = "free now" if found.attribute in _FREE and found.nearest else "found"
    text = f"{found.job_id}: {found.clause}:{about} wanted {wanted(found)}, {seen} {offered(found)}"
    return f"{text}\nnearest: {found.nearest.offer}, seen {found.nearest.seen_at}" if found.nearest else text
