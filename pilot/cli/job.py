"""`pilot job`: one job, looked at closely: its output, its story, its sandbox."""

import sys
import time
from pathlib import Path

import click

from pilot.cli.exits import Exit, Stop
from pilot.cli.who import user

STATE = click.option(
    "--state", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR", help="The pilot's state."
)
QUEUE = click.option("--queue", metavar="URL", envvar="PILOT_QUEUE", help="The queue: sqlite:PATH.")
_FOLLOW_SECONDS = 0.2


@click.group(name="job", epilog="Example: pilot job logs -f my-job --state ~/.local/state/pilot/0123456789abcdef")
def group() -> None:
    """A job's output, live; its end; its story from the journal; its sandbox after it failed."""


@group.command(epilog="Example: pilot job logs -f my-job --state DIR")
@click.argument("job")
@STATE
@QUEUE
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@click.option("--stderr", "which", flag_value="stderr", help="The error output instead.")
@click.option("--pilot", "which", flag_value="pilot", help="The job's part of the pilot's log instead.")
def logs(job: str, state: Path | None, queue: str | None, follow: bool, which: str | None) -> int:
    """Prints what a job has written, running or ended."""
    from pilot.assemble.jobs import find_log

    log = find_log(job, state, queue, which or "stdout")
    _write(log.more())
    while follow and log.live():
        time.sleep(_FOLLOW_SECONDS)
        _write(log.more())
    _write(log.more())
    return Exit.OK


@group.command(epilog="Example: pilot job kill my-job --queue sqlite:queue.db")
@click.argument("job")
@QUEUE
def kill(job: str, queue: str | None) -> int:
    """Ends a job: at once where it waits, with the next heartbeat where it runs."""
    from pilot.assemble.jobs import cancel

    click.echo(cancel(job, _queue(queue), user()))
    return Exit.OK


@group.command(epilog="Example: pilot job replay my-job --state DIR")
@click.argument("job")
@STATE
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def replay(job: str, state: Path | None, style: str) -> int:
    """Tells a job's life again from the journal: every fact, and where it led."""
    from pilot.assemble.jobs import retell

    for line in retell(job, _state(state), style):
        click.echo(line)
    return Exit.OK


@group.command(epilog="Example: pilot job shell my-job --state DIR")
@click.argument("job")
@STATE
@click.option("--dry-run", is_flag=True, help="Print the command only.")
def shell(job: str, state: Path | None, dry_run: bool) -> int:
    """Opens a shell in the sandbox of a failed job: its image, inputs, code and environment."""
    from pilot.assemble.jobs import open_again

    return open_again(job, _state(state), ("/bin/sh", "-i"), dry_run)


@group.command(epilog="Example: pilot job rerun my-job --state DIR")
@click.argument("job")
@STATE
@click.option("--dry-run", is_flag=True, help="Print the command only.")
def rerun(job: str, state: Path | None, dry_run: bool) -> int:
    """Runs a failed job's command once more in its kept sandbox, with its output on this terminal."""
    from pilot.assemble.jobs import open_again

    return open_again(job, _state(state), (), dry_run)


def _write(said: bytes) -> None:
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()


def _state(state: Path | None) -> Path:
    if state is None:
        raise Stop("which pilot's? give --state DIR, its state directory", Exit.USAGE)
    return state.absolute()  # commands are run in the job's own directory


def _queue(queue: str | None) -> str:
    if queue is None:
        raise Stop("which queue? give --queue sqlite:PATH or set PILOT_QUEUE", Exit.CONFIGURATION)
    return queue
