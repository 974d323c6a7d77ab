"""The commands as pages: man pages and one Markdown page, drawn from the very commands."""

from collections.abc import Iterator
from dataclasses import dataclass

import click

from pilot import __version__
from pilot.cli.exits import Exit
from pilot.cli.main import pilot


@dataclass(frozen=True, slots=True)
class Page:
    """One command: its words, what it does in one line and in full, its usage, options (usage, text), an example."""

    words: str
    brief: str
    text: str
    usage: str
    options: tuple[tuple[str, str], ...]
    example: str


def pages() -> Iterator[Page]:
    """Every command, groups before their members."""
    yield from _pages(pilot, click.Context(pilot, info_name="pilot"))


def _pages(command: click.Command, context: click.Context) -> Iterator[Page]:
    options = (each.get_help_record(context) for each in command.get_params(context))
    yield Page(
        words=context.command_path,
        brief=command.get_short_help_str(200),
        text=" ".join((command.help or "").split()),
        usage=" ".join(command.get_usage(context).removeprefix("Usage: ").split()),
        options=tuple(each for each in options if each is not None),
        example=(command.epilog or "").partition(": ")[2],
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None  # it was just listed
            yield from _pages(member, click.Context(member, info_name=name, parent=context))


def markdown() -> str:
    """The commands' reference page."""
    lines = ["# Commands", "", _COMPLETION, "", _exit_codes_page()]
    for page in pages():
        lines += ["", f"## {page.words}", "", page.text, "", f"`{page.usage}`", ""]
        lines += [f"- `{usage}`: {text}" for usage, text in page.options if usage != "--help"]
        lines += ["", f"Example: `{page.example}`"]
    return "\n".join(lines) + "\n"


_COMPLETION = (
    "Every command takes `--help`. Man pages: `scripts/man DIRECTORY`. Completion for bash: "
    '`eval "$(_PILOT_COMPLETE=bash_source pilot)"` (also `zsh_source`, `fish_source`).'
)
_MEANING = {
    Exit.OK: "done; also: no work, and a clean end",
    Exit.NOT_SUCCEEDED: "a job did not succeed (`--job`, or with `--reflect-exit-status`)",
    Exit.USAGE: "wrong words on the command line",
    Exit.BAD_JOB: "a job file that cannot be used as written",
    Exit.UNAVAILABLE: "queue or storage cannot be reached",
    Exit.INTERNAL: "a mistake of the pilot's own",
    Exit.UNFIT: "this node cannot do it",
    Exit.DISK: "no room, or an output that exists already",
    Exit.LATER: "not now, but later",
    Exit.DENIED: "not allowed",
    Exit.CONFIGURATION: "the configuration cannot be used as written",
    Exit.INTERRUPTED: "an orderly end after SIGINT",
    Exit.TERMINATED: "an orderly end after SIGTERM",
}


def _exit_codes_page() -> str:
    rows = "\n".join(f"| {code.value} | {_MEANING[code]} |" for code in Exit)
    return f"| exit code | means |\n| --- | --- |\n{rows}"


def man() -> dict[str, str]:
    """File name -> page in man's own language."""
    return {f"{page.words.replace(' ', '-')}.1": _roff(page) for page in pages()}


def _roff(page: Page) -> str:
    name = page.words.replace(" ", "-")
    lines = [f'.TH "{name.upper()}" 1 "" "ml-grid-pilot {__version__}"', ".SH NAME", f"{name} \\- {_plain(page.brief)}"]
    lines += [".SH SYNOPSIS", _plain(page.usage), ".SH DESCRIPTION", _plain(page.text), ".SH OPTIONS"]
    for usage, text in page.options:
        lines += [".TP", f".B {_plain(usage)}", _plain(text)]
    lines += [".SH EXIT STATUS"]
    for code in Exit:
        lines += [".TP", f".B {code.value}", _plain(_MEANING[code].replace("`", ""))]
    return "\n".join([*lines, ".SH EXAMPLES", ".nf", _plain(page.example), ".fi"]) + "\n"


def _plain(text: str) -> str:
    """Text that man takes for nothing else."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe
