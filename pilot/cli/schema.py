"""`pilot schema`: the JSON Schemas of all that is read and printed."""

import json
from pathlib import Path

import click

from pilot.cli.exits import Exit, Stop
from pilot.config.problems import did_you_mean

FOLDER = Path(__file__).parent.parent / "schemas"


def schemas() -> dict[str, Path]:
    """Name -> file; a name without version means its newest one."""
    named = {each.stem: each for each in sorted(FOLDER.glob("*.json"))}
    return {name.partition("-")[0]: each for name, each in named.items()} | named


@click.command(name="schema", epilog="Examples: pilot schema | pilot schema job")
@click.argument("name", required=False)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(name: str | None, style: str) -> None:
    """Prints the JSON Schema called NAME; without NAME, what there is."""
    known = schemas()
    if name is None:
        rows = {each: json.loads(path.read_text("utf-8")).get("description", "") for each, path in known.items()}
        text = "\n".join(f"{each:<14} {said}" for each, said in rows.items())
        click.echo(json.dumps(rows) if style == "json" else text)
        return
    if name not in known:
        raise Stop(f"unknown schema {name!r}{did_you_mean(name, known)} (`pilot schema` lists all)", Exit.USAGE)
    click.echo(known[name].read_text("utf-8").rstrip())
