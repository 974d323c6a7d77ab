"""`pilot`: the sub-commands, found by name and imported on use, and the one place where errors become exit codes."""

import signal
from collections.abc import Callable

import click

from pilot import __version__
from pilot.cli.exits import Exit, Stop, exit_of
from pilot.cli.say import say_aside
from pilot.config.problems import ConfigProblems, JobProblems, did_you_mean
from pilot.ports import PortError


def _run() -> click.Command:
    from pilot.cli.run import command

    return command


def _queue() -> click.Command:
    from pilot.cli.queue import group

    return group


def _probe() -> click.Command:
    from pilot.cli.probe import command

    return command


def _doctor() -> click.Command:
    from pilot.cli.doctor import command

    return command


def _config() -> click.Command:
    from pilot.cli.config import command

    return command


def _job() -> click.Command:
    from pilot.cli.job import group

    return group


def _image() -> click.Command:
    from pilot.cli.image import group

    return group


def _login() -> click.Command:
    from pilot.cli.login import command

    return command


def _explain() -> click.Command:
    from pilot.cli.explain import command

    return command


def _schema() -> click.Command:
    from pilot.cli.schema import command

    return command


COMMANDS: dict[str, tuple[Callable[[], click.Command], str]] = {
    "run": (_run, "the pilot: claims jobs, runs them, stores what they make, reports"),
    "probe": (_probe, "what this node is and what this slot may use"),
    "doctor": (_doctor, "one line per check, with the remedy"),
    "queue": (_queue, "the embedded queue: add jobs, look at them, ask why one waits"),
    "job": (_job, "one job: its output, its story, its sandbox"),
    "login": (_login, "a token for a served queue, by way of a browser"),
    "image": (_image, "the data-science images of this node"),
    "config": (_config, "check and show the configuration"),
    "explain": (_explain, "a fault code or PanDA number: whose, what, what helps"),
    "schema": (_schema, "JSON Schemas of all that is read and printed"),
}


class _Lazy(click.Group):
    """A group whose members are imported on use: `pilot --version` must not pay for them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of a pilot's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and gives the command of that name."""
        found = COMMANDS.get(cmd_name)
        return found[0]() if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, and what follows it; an unknown one ends with the nearest that there is."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Lazy, epilog="Example: pilot run --job demo/job.yaml --output /tmp/out")
@click.version_option(__version__, prog_name="pilot")
def pilot() -> None:
    """A grid pilot for machine learning."""


def run(arguments: list[str]) -> int:
    """Runs one command; gives its exit code."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        code = pilot.main(arguments, prog_name="pilot", standalone_mode=False)
    except Stop as stop:
        return _say(str(stop), stop.code)
    except click.UsageError as error:
        return _say(_usage(error), Exit.USAGE)
    except click.Abort:
        return _say("interrupted", Exit.INTERRUPTED)
    except ConfigProblems as found:
        return _say(
            "\npilot: ".join(found.lines()), Exit.BAD_JOB if isinstance(found, JobProblems) else Exit.CONFIGURATION
        )
    except PortError as error:
        return _say(error.fault.detail or error.fault.message, exit_of(error))
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError) -> str:
    where = error.ctx.command_path if error.ctx else "pilot"
    return f"{error.format_message()} (try `{where} --help`)"


def _say(text: str, code: int) -> int:
    if text:
        say_aside(text)
    return int(code)
