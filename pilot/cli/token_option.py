"""`--token-file` of the commands that talk to a queue as their user."""

import os
from pathlib import Path

import click

from pilot.config.home import full_path


def _take(_context: click.Context, _option: click.Parameter, file: Path | None) -> None:
    """For this command what PILOT_TOKEN_FILE would say."""
    if file is not None:
        os.environ["PILOT_TOKEN_FILE"] = str(full_path(file))


TOKEN_FILE = click.option(
    "--token-file",
    type=click.Path(path_type=Path, readable=False),  # whether it can be read is looked at where it is read
    metavar="FILE",
    expose_value=False,
    callback=_take,
    help="Your token for a served queue; default: PILOT_TOKEN_FILE, or what `pilot login` keeps.",
)
