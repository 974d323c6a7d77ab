"""`pilot doctor`: whether jobs would run here, one line per check."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from pilot.assemble.node import checks
from pilot.cli.exits import Exit, exit_of_code
from pilot.cli.say import say
from pilot.cli.token_option import TOKEN_FILE
from pilot.config.settings import load_settings
from pilot.model.check import Check, Status
from pilot.model.faults import Code


@click.command(
    name="doctor", epilog="Examples: pilot doctor | pilot doctor --queue sqlite:/data/queue.db --format json"
)
@click.option("--queue", metavar="URL", help="Also whether this queue answers.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The pilot's configuration.")
@TOKEN_FILE
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
    return _exit([each for each in found if each.status is Status.FAIL])


def _exit(failed: list[Check]) -> int:
    """A node that is fit is not unfit because of its queue, or of who we are to it."""
    far = [each for each in failed if each.check in ("credential", "queue")]
    if not failed or len(far) < len(failed):
        return Exit.UNFIT if failed else Exit.OK
    return exit_of_code(Code(far[0].code)) if far[0].code else Exit.UNAVAILABLE


def _line(check: Check) -> str:
    helps = f"; {check.remedy}" if check.remedy and check.status is not Status.OK else ""
    return f"{check.status:<4} {check.check}: {check.detail}{helps}"
