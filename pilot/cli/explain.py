"""`pilot explain`: what a fault code or one of PanDA's numbers means."""

import json

import click

from pilot.cli.exits import Exit, Stop
from pilot.config.problems import did_you_mean
from pilot.model.faults import CHARGED, REGISTRY, Code
from pilot.model.numbers import codes_of, numbers_text

_WHOSE = {
    "job": "what was asked for cannot be",
    "payload": "the user's process",
    "input": "a file that was to be read",
    "node": "the machine that the pilot runs on",
    "site": "storage or batch system",
    "service": "queue or credentials",
    "pilot": "the pilot itself",
}


@click.command(name="explain", epilog="Examples: pilot explain payload.memory | pilot explain 1212 | pilot explain")
@click.argument("code", required=False)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(code: str | None, style: str) -> None:
    """Says whose fault CODE is, what it means and what helps; CODE may be PanDA's number. Without CODE, lists all."""
    found = _find(code) if code else list(REGISTRY)
    rows = [_row(each) for each in found]
    if style == "json":
        click.echo(json.dumps(rows if code is None or len(rows) > 1 else rows[0]))
    elif code is None:
        click.echo(
            "\n".join(f"{row['code']:<22} {row['party']:<8} {row['panda']:>5}  {row['message']}" for row in rows)
        )
    else:
        click.echo("\n\n".join(_text(row) for row in rows))


def _find(code: str) -> list[Code]:
    known = codes_of(int(code)) if code.isdecimal() else [each for each in REGISTRY if each.value == code]
    if not known:
        what = "PanDA number" if code.isdecimal() else "fault code"
        hint = "" if code.isdecimal() else did_you_mean(code, [each.value for each in REGISTRY])
        raise Stop(f"unknown {what} {code!r}{hint} (`pilot explain` lists all)", Exit.USAGE)
    return known


def _row(code: Code) -> dict[str, object]:
    entry = REGISTRY[code]
    return {
        "code": code.value,
        "party": entry.party.value,
        "message": entry.message,
        "remedy": entry.remedy,
        "panda": entry.panda,
        "panda_numbers": numbers_text(code),
        "charged": entry.party in CHARGED,
    }


def _text(row: dict[str, object]) -> str:
    counted = "the job's attempts" if row["charged"] else "its interruptions, not its attempts"
    return "\n".join(
        [
            f"{row['code']}: {row['message']}",
            f"  whose:  {row['party']} ({_WHOSE[str(row['party'])]})",
            f"  helps:  {row['remedy']}",
            f"  counts: against {counted}",
            f"  PanDA:  {row['panda_numbers']}",
        ]
    )
