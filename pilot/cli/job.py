"""`pilot job`: one job, looked at closely: its output, its story, its sandbox."""

import sys
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import click

from pilot.cli.exits import Exit, Stop
from pilot.cli.queue_text import ended
from pilot.cli.say import Screen, harmless, one_line, say, say_aside
from pilot.cli.token_option import TOKEN_FILE
from pilot.cli.who import user
from pilot.model.faults import Code
from pilot.ports import Passing

FIRST_PAUSES, LONGEST_PAUSE = (1.0, 2.0, 4.0), 8.0  # seconds between two questions to a queue that is away

STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="The pilot's state; default: as `pilot run` on that queue.",
)
QUEUE = click.option(
    "--queue", metavar="URL", envvar="PILOT_QUEUE", help="The queue: sqlite:PATH or https://HOST:PORT."
)


@click.group(name="job", epilog="Example: pilot job logs -f my-job --queue sqlite:queue.db")
def group() -> None:
    """A job's output, live; its end; its story from the journal; its sandbox after it failed."""


@group.command(epilog="Example: pilot job logs -f my-job --queue sqlite:queue.db")
@click.argument("job")
@STATE
@QUEUE
@TOKEN_FILE
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@click.option("--stderr", "which", flag_value="stderr", help="The error output instead.")
@click.option("--pilot", "which", flag_value="pilot", help="The job's part of the pilot's log instead.")
def logs(job: str, state: Path | None, queue: str | None, follow: bool, which: str | None) -> int:
    """Prints what a job has written, running or ended; to a terminal, control characters are written out."""
    from pilot.assemble.jobs import Place, find_log

    place = Place(state, kept=True) if state else Place(_at_hand(queue))
    which = which or "stdout"
    log = find_log(job, place, queue, which)
    more = _patient(log.more) if follow else log.more
    screen = Screen(sys.stdout)
    said = screen.write(more())
    while (follow and log.live()) or log.pending():
        time.sleep(log.pause)
        said += screen.write(more())
    if not said + screen.write(more()):
        other = "; --stderr shows the other" if which == "stdout" else ""
        why = " yet" if log.live() else ": it was empty, or it could not be stored"
        say_aside(f"job {job}: nothing in its {which}{why}{other}")
    return Exit.OK


def _patient(more: Callable[[], bytes]) -> Callable[[], bytes]:
    """Waits for a queue that does not answer, as pilots do: whoever follows a log outlives its restart."""

    def wait() -> bytes:
        pauses = chain(FIRST_PAUSES, repeat(LONGEST_PAUSE))
        told = False
        while True:
            try:
                return more()
            except Passing as problem:
                if problem.fault.code is not Code.SERVER_UNREACHABLE:
                    raise
                if not told:
                    say_aside(f"{problem.fault.detail}; waiting for it")
            told = True
            time.sleep(next(pauses))

    return wait


@group.command(epilog="Example: pilot job kill my-job --queue sqlite:queue.db")
@click.argument("job")
@QUEUE
@TOKEN_FILE
def kill(job: str, queue: str | None) -> int:
    """Ends a job: at once where it waits, with the next heartbeat where it runs."""
    from pilot.assemble.jobs import cancel

    row = cancel(job, _queue(queue), user())
    say(f"{one_line(row.name)} ({row.job_id}): {ended(row)}")
    return Exit.OK


@group.command(epilog="Example: pilot job replay my-job --queue sqlite:queue.db")
@click.argument("job")
@STATE
@QUEUE
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def replay(job: str, state: Path | None, queue: str | None, style: str) -> int:
    """Tells a job's life again from the journal: every fact, and where it led."""
    from pilot.assemble.jobs import retell

    for line in retell(job, _state(state, queue), style):
        click.echo(harmless(line))
    return Exit.OK


@group.command(epilog="Example: pilot job shell my-job --queue sqlite:queue.db")
@click.argument("job")
@STATE
@QUEUE
@click.option("--dry-run", is_flag=True, help="Print the command only.")
def shell(job: str, state: Path | None, queue: str | None, dry_run: bool) -> int:
    """Opens a shell in the sandbox of a failed job: its image, inputs, code and environment."""
    from pilot.assemble.jobs import open_again

    return open_again(job, _state(state, queue), ("/bin/sh", "-i"), dry_run)


@group.command(epilog="Example: pilot job rerun my-job --queue sqlite:queue.db")
@click.argument("job")
@STATE
@QUEUE
@click.option("--dry-run", is_flag=True, help="Print the command only.")
def rerun(job: str, state: Path | None, queue: str | None, dry_run: bool) -> int:
    """Runs a failed job's command once more in its kept sandbox, with its output on this terminal."""
    from pilot.assemble.jobs import open_again

    return open_again(job, _state(state, queue), (), dry_run)


def _state(state: Path | None, queue: str | None) -> Path:
    found = state or _at_hand(queue)
    if found is None:
        raise Stop("which pilot's? give --queue of its queue, or --state DIR, its state directory", Exit.USAGE)
    return found.absolute()  # commands are run in the job's own directory


def _at_hand(queue: str | None) -> Path | None:
    """The state directory that `pilot run` with these words would use, if it is there."""
    from pilot.cli.places import state_at_hand
    from pilot.cli.running import settings_of

    return state_at_hand(settings_of({"queue": queue}, None))


def _queue(queue: str | None) -> str:
    if queue is None:
        raise Stop("which queue? give --queue sqlite:PATH or https://HOST:PORT, or set PILOT_QUEUE", Exit.CONFIGURATION)
    return queue
