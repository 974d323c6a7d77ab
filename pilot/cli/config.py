"""`pilot config`: checks files that people wrote, and shows what holds here and why."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import click

from pilot.cli import requirements
from pilot.cli.exits import Exit, Stop
from pilot.config.problems import ConfigProblems, Problem
from pilot.config.settings import check_file, load_settings

BYTES_SEEN = 1 << 20
_JOB_KEY = re.compile(rb"""(?:^|[{,])[ \t-]*["']?(?:command|needs|inputs|outputs|validate)["']?[ \t]*:""", re.MULTILINE)

_STYLE = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
_FILE = click.argument("file", type=click.Path(path_type=Path), required=False)


@click.group(
    name="config", epilog="Examples: pilot config check pilot.yaml | pilot config check job.yaml | pilot config show"
)
def command() -> None:
    """Checks and shows configuration: the pilot's own, and job files."""


@command.command(epilog="Example: pilot config check ~/.config/pilot/config.yaml")
@_FILE
@click.option("--kind", type=click.Choice(["auto", "config", "job"]), default="auto", help="What FILE is.")
@_STYLE
def check(file: Path | None, kind: str, style: str) -> int:
    """Names every problem of FILE (a configuration or a job file) with its place; without FILE, of what holds here."""
    found = _effective_problems() if file is None else _problems(file, kind)
    if style == "json":
        rows = [{**asdict(each), "text": str(each)} for each in found]
        click.echo(json.dumps(rows))
    else:
        click.echo("\n".join(map(str, found)) or f"{file or 'configuration'}: ok")
    if not found:
        return Exit.OK
    return Exit.BAD_JOB if file is not None and _is_job(file, kind) else Exit.CONFIGURATION


@command.command(epilog="Example: pilot config show --format json")
@_FILE
@_STYLE
def show(file: Path | None, style: str) -> None:
    """Every value that holds here (or would with FILE), and where it comes from."""
    found = load_settings(config=file)
    origins = dict(found.origins)
    rows = {name: {"value": _plain(value), "origin": origins[name]} for name, value in asdict(found.settings).items()}
    if style == "json":
        click.echo(json.dumps(rows))
        return
    for name, row in rows.items():
        click.echo(f"{name:<18} {json.dumps(row['value']):<32} {row['origin']}")


@command.command(epilog="Example: pilot config schema > config.schema.json")
def schema() -> None:
    """The JSON Schema of the pilot's configuration, for editors."""
    from pilot.cli.schema import schemas

    click.echo(schemas()["config"].read_text("utf-8").rstrip())


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, tuple) and value and isinstance(value[0], tuple) else value


def _effective_problems() -> tuple[Problem, ...]:
    try:
        return requirements.problems(load_settings())
    except ConfigProblems as found:
        return found.problems


def _problems(file: Path, kind: str) -> tuple[Problem, ...]:
    if not _is_job(file, kind):
        if wrong := check_file(file):
            return wrong
        whole = requirements.problems(load_settings(environment={}, config=file))
        return tuple(each for each in whole if each.source == str(file))
    from pilot.assemble.submission import read_jobs

    try:
        read_jobs(file)
    except ConfigProblems as found:
        return found.problems
    return ()


def _is_job(file: Path, kind: str) -> bool:
    """A job says what to run; a configuration never does. Seen in the text, for the file may be broken."""
    if kind != "auto":
        return kind == "job"
    try:
        with file.open("rb") as stream:
            return _JOB_KEY.search(stream.read(BYTES_SEEN)) is not None
    except OSError as error:
        raise Stop(f"{file}: cannot be read: {error.strerror}", Exit.CONFIGURATION) from None
