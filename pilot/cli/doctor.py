"""`pilot doctor`: whether jobs would run here, one line per check."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from pilot.assemble.node import checks
from pilot.cli.exits import Exit
from pilot.cli.say import say
from pilot.config.settings import load_settings
from pilot.model.check import Check, Status


@click.command(
    name="doctor", epilog="Examples: pilot doctor | pilot doctor --queue sqlite:/data/queue.db --format json"
)
@click.option("--queue", metavar="URL", help="Also whether this queue answers.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The pilot's configuration.")
def command(queue: str | None, style: str, config: Path | None) -> int:
    """Looks at everything that a job needs here; each line says ok, warn, fail or skip, and what helps."""
    settings = load_settings({"queue": queue}, config=config).settings
    found: list[Check] = []
    for each in checks(settings):
        found.append(each)
        if style == "text":
            say(_line(each))
    if style == "json":
        click.echo(json.dumps([asdict(each) for each in found]))
    return Exit.UNFIT if any(each.status is Status.FAIL for each in found) else Exit.OK


def _line(check: Check) -> str:
    helps = f"; {check.remedy}" if check.remedy and check.status is not Status.OK else ""
    return f"{check.status:<4} {check.check}: {check.detail}{helps}"
