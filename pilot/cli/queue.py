"""`pilot queue`: the embedded queue, as its users and its owner use it."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click

from pilot.assemble.queue import change_queue, destination_problem, make_queue, open_queue, queue_path
from pilot.cli.exits import Exit, Stop
from pilot.cli.queue_text import (
    ended,
    explanation_text,
    given_free,
    kept_back,
    note_rows,
    print_rows,
    print_settings,
    say,
    view_plain,
    view_text,
)
from pilot.cli.serve import serve, token
from pilot.cli.token_option import TOKEN_FILE
from pilot.cli.units import DURATION
from pilot.cli.who import user
from pilot.config.home import full_path
from pilot.model.faults import Code
from pilot.model.plain import full_plain
from pilot.model.queue import JobState, QueueSettings, QueueState
from pilot.ports import Final, PortError, Queue

STATES = click.Choice([each.value for each in JobState])
QUEUE_STATES = click.Choice([each.value for each in QueueState])
Command = Callable[..., None]


@click.group(name="queue", epilog="Example: pilot queue init --queue sqlite:queue.db --output /data/out")
def group() -> None:
    """The embedded queue: one SQLite file, shared by pilots and users of one machine."""


def _common(command: Command) -> Command:
    """The options that every command of the group has."""
    command = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")(command)
    command = click.option("--queue-name", "name", default="default", show_default=True, help="Which of the file.")(
        command
    )
    return click.option(
        "--queue", "url", metavar="URL", envvar="PILOT_QUEUE", help="sqlite:PATH or https://HOST:PORT."
    )(command)


# --- the queue itself -----------------------------------------------------------------------------------------------


@group.command(epilog="Example: pilot queue init --queue sqlite:queue.db --output /data/out")
@_common
@click.option("--output", metavar="DIR", help="Where outputs land that name no place; default: beside the queue.")
@click.option("--lease", type=DURATION, default=60.0, help="How long a silent pilot keeps a job; default 60s.")
def init(url: str | None, name: str, style: str, output: str | None, lease: float) -> None:
    """Makes a queue."""
    there = _url(url)
    destination = _destination(output) if output else _beside(there)
    settings = QueueSettings(name, user(), destination=destination, lease_seconds=_lease(lease))
    with _configuration():
        warning = _made(there, settings)
    if warning:
        sys.stderr.write(f"pilot: warning: {warning}\n")
    print_settings(settings, style)


@group.command(name="set", epilog="Example: pilot queue set --queue sqlite:queue.db --state drain")
@_common
@click.option("--state", type=QUEUE_STATES, help="online; test: the owner's jobs only; drain, offline: none given out.")
@click.option("--output", metavar="DIR", help="Where outputs land that name no place.")
@click.option("--lease", type=DURATION, help="How long a silent pilot keeps a job.")
def change(url: str | None, name: str, style: str, state: str | None, output: str | None, lease: float | None) -> None:
    """Changes a queue; its owner may. Without options, shows it."""
    wanted = {
        "state": state,
        "destination": _destination(output) if output else None,
        "lease_seconds": None if lease is None else _lease(lease),
    }
    with _configuration():
        found = change_queue(
            _url(url), name, user(), {key: value for key, value in wanted.items() if value is not None}
        )
    print_settings(found, style)


def _made(url: str, settings: QueueSettings) -> str:
    """A place that is not there, or may not be written, is a matter of the disk: no server is away."""
    try:
        return make_queue(url, settings)
    except Final as problem:
        if problem.fault.code is Code.SERVER_UNREACHABLE:
            raise Stop(problem.fault.detail, Exit.DISK) from problem
        raise


# --- jobs -----------------------------------------------------------------------------------------------------------


@group.command(epilog="Example: pilot queue add --queue sqlite:queue.db scan.yaml --sweep points.csv")
@_common
@TOKEN_FILE
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--sweep", type=click.Path(path_type=Path), metavar="VALUES", help="A job for each line of a .csv or .jsonl file."
)
@click.option("--dry-run", is_flag=True, help="Checks everything, adds nothing, says what would be added.")
def add(url: str | None, name: str, style: str, files: tuple[Path, ...], sweep: Path | None, dry_run: bool) -> None:
    """Adds the jobs of the files: all of them or, where one is wrong, none.

    With --sweep, FILE describes one job, in which {lr} stands for the value of lr: in the command, the environment's
    values, the names and places of outputs, and the job's name.
    """
    from pilot.cli import adding

    jobs = adding.read(files, sweep is not None)
    if dry_run:
        adding.would_add(jobs, style) if sweep is None else adding.would_sweep(jobs[0], sweep, style)
        return
    with _opened(url, name) as queue:
        adding.add_jobs(queue, jobs, style) if sweep is None else adding.add_sweep(queue, jobs[0], sweep, style)


@group.command(name="ls", epilog="Example: pilot queue ls --queue sqlite:queue.db --state waiting")
@_common
@TOKEN_FILE
@click.option("--state", "states", type=STATES, multiple=True, help="Only jobs in that state; may be repeated.")
@click.option("--owner", default="", help="Only that owner's jobs.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many.")
def list_jobs(url: str | None, name: str, style: str, states: Sequence[str], owner: str, limit: int | None) -> None:
    """Lists jobs, in order of arrival."""
    with _opened(url, name) as queue:
        rows = queue.find([JobState(each) for each in states], owner, limit or 0)
    print_rows(rows, style)


@group.command(epilog="Example: pilot queue show --queue sqlite:queue.db 0f3k9q2m4x7ab")
@_common
@TOKEN_FILE
@click.argument("job")
def show(url: str | None, name: str, style: str, job: str) -> None:
    """Shows one job in full: what it asks, how it stands, the report of every attempt."""
    with _opened(url, name) as queue:
        view = queue.show(job)
    say(json.dumps(view_plain(view)) if style == "json" else view_text(view))


@group.command(epilog="Example: pilot queue explain --queue sqlite:queue.db dilepton-classifier")
@_common
@TOKEN_FILE
@click.argument("job")
def explain(url: str | None, name: str, style: str, job: str) -> None:
    """Says why a job stands where it stands: what refuses, what it wanted, what the nearest offer had."""
    with _opened(url, name) as queue:
        found = queue.explain(job)
    say(json.dumps(full_plain(found)) if style == "json" else explanation_text(found))


@group.command(epilog="Example: pilot queue hold --queue sqlite:queue.db JOB")
@_common
@TOKEN_FILE
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
def hold(url: str | None, name: str, style: str, jobs: tuple[str, ...]) -> None:
    """Keeps jobs from being given out; an attempt that runs now runs on."""
    with _opened(url, name) as queue:
        rows = queue.hold(jobs)
    print_rows(rows, style)
    note_rows(rows, kept_back, style)


@group.command(epilog="Example: pilot queue release --queue sqlite:queue.db JOB")
@_common
@TOKEN_FILE
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
def release(url: str | None, name: str, style: str, jobs: tuple[str, ...]) -> None:
    """Lets held jobs be given out again."""
    with _opened(url, name) as queue:
        rows = queue.release(jobs)
    print_rows(rows, style)
    note_rows(rows, given_free, style)


@group.command(epilog="Example: pilot queue rm --queue sqlite:queue.db JOB")
@_common
@TOKEN_FILE
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
def rm(url: str | None, name: str, style: str, jobs: tuple[str, ...]) -> None:
    """Cancels jobs: at once where they wait, with the pilot's next heartbeat where they run."""
    with _opened(url, name) as queue:
        rows = queue.cancel(jobs)
    print_rows(rows, style)
    note_rows(rows, ended, style)


group.add_command(serve)
group.add_command(token)


# --- what was given -------------------------------------------------------------------------------------------------


def _url(url: str | None) -> str:
    if not url:
        raise Stop("no queue: give --queue sqlite:PATH or https://HOST:PORT, or set PILOT_QUEUE", Exit.CONFIGURATION)
    return url


def _destination(output: str) -> str:
    there = output if "://" in output else full_path(Path(output).expanduser()).as_uri()
    if problem := destination_problem(there):
        raise Stop(f"--{problem}", Exit.USAGE)
    return there


def _beside(url: str) -> str:
    with _configuration():
        path = full_path(queue_path(url))
    return path.with_name(f"{path.stem}-outputs").as_uri()


def _lease(seconds: float) -> float:
    if not 1.0 <= seconds <= 30 * 86400.0:
        raise Stop(f"--lease {seconds:g}s: between 1s and 30d", Exit.USAGE)
    return seconds


@contextmanager
def _configuration() -> Iterator[None]:
    """A queue that was named wrongly is a matter of configuration; nobody has refused anything."""
    try:
        yield
    except PortError as problem:
        if problem.fault.code in (Code.SERVER_REFUSED, Code.JOB_INVALID):
            raise Stop(problem.fault.detail, Exit.CONFIGURATION) from problem
        raise


@contextmanager
def _opened(url: str | None, name: str) -> Iterator[Queue]:
    with _configuration():
        queue = open_queue(_url(url), name, user())
    with closing(queue):
        with _configuration():
            queue.settings()
        try:
            yield queue
        except PortError as problem:
            if problem.fault.code is Code.SERVER_REFUSED:
                raise Stop(problem.fault.detail, Exit.USAGE) from problem
            raise
