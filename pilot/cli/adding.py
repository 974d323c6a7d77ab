"""`pilot queue add`: job files, or a sweep, on their way into a queue."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from pilot.assemble.submission import Preview, preview, read_and_pin
from pilot.cli.exits import Exit, Stop
from pilot.cli.queue_text import say
from pilot.cli.say import one_line
from pilot.cli.sweeping import Values
from pilot.config.settings import load_settings
from pilot.model.job import JobSpec
from pilot.model.plain import full_plain
from pilot.model.queue import Submission, Sweep
from pilot.ports import Queue


def read(files: Sequence[Path], sweep: bool = False) -> list[Submission]:
    """The jobs of the files, their images pinned."""
    settings = load_settings().settings
    jobs = [each for file in files for each in read_and_pin(file, settings, _warn, sweep)]
    if sweep and len(jobs) != 1:
        raise Stop(f"--sweep takes the description of one job; {len(jobs)} were given", Exit.USAGE)
    return jobs


def add_jobs(queue: Queue, jobs: Sequence[Submission], style: str) -> None:
    """Adds them, and says under which ids."""
    rows = queue.add(jobs)
    if style == "json":
        say(json.dumps([{"job_id": each.job_id, "name": each.name} for each in rows]))
    else:
        say("\n".join(f"{one_line(each.job_id)}  {one_line(each.name)}" for each in rows))


def add_sweep(queue: Queue, template: Submission, values: Path, style: str) -> None:
    """Adds a job for each line of values, and says how many."""
    rows = Values(values)
    with rows.placed():
        sweep: Sweep = queue.add_sweep(template, rows)
    _warn_of(rows)
    if style == "json":
        say(json.dumps(full_plain(sweep)))
    else:
        say(f"{sweep.jobs} jobs of {sweep.name}: {sweep.first} to {sweep.last}")


def would_add(jobs: Sequence[Submission], style: str) -> None:
    """What would be added."""
    if style == "json":
        say(json.dumps({"would_add": [full_plain(each.spec) for each in jobs]}))
    else:
        say("\n".join(f"would add {_line(each.spec)}" for each in jobs))


def would_sweep(template: Submission, values: Path, style: str) -> None:
    """What would be added: how many, the first and the last."""
    rows = Values(values)
    with rows.placed():
        found: Preview = preview(template, rows)
    _warn_of(rows)
    if style == "json":
        say(json.dumps({"would_add": full_plain(found)}))
    else:
        say(f"would add {found.jobs} jobs\nfirst: {_line(found.first)}\nlast:  {_line(found.last)}")


def _line(spec: JobSpec) -> str:
    return f"{spec.name}: {' '.join(spec.command)}"


def _warn_of(rows: Values) -> None:
    if warning := rows.warning():
        _warn(f"pilot: warning: {warning}")


def _warn(text: str) -> None:
    click.echo(text, err=True)
