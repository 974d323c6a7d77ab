"""`pilot login`: a token for a served queue, by way of a browser."""

import json
from datetime import UTC, datetime

import click

from pilot.cli.exits import Exit, Stop
from pilot.cli.say import say, say_aside
from pilot.model.faults import Code
from pilot.ports import PortError


@click.command(name="login", epilog="Example: pilot login --queue https://queue.example.org:25443")
@click.option("--queue", "url", metavar="URL", help="https://HOST:PORT; else PILOT_QUEUE, else the configuration's.")
@click.option("--issuer", metavar="URL", default="", help="The issuer of tokens (OIDC); default: the queue's own word.")
@click.option("--client-id", metavar="ID", default="", help="As whom the issuer knows this program.")
@click.option("--scope", metavar="WORDS", default="", help="What the token is for; default: openid offline_access.")
@click.option("--audience", metavar="TEXT", default="", help="For whom the token is; default: the queue's own word.")
@click.option("--fresh", is_flag=True, help="Log in anew, even where the token of before can be renewed.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(*, url: str | None, style: str, **words: object) -> None:
    """Gets a token for a served queue: shows an address and a code to enter there, in any browser.

    The token and what renews it are kept for you alone, and found by every command that talks to that queue.
    """
    from pilot.assemble.login import Wish, log_in
    from pilot.config.settings import load_settings

    settings = load_settings({"queue": url}).settings
    try:
        found = log_in(settings, Wish(**words), say_aside)  # type: ignore[arg-type]  # click has seen to the types
    except PortError as problem:
        if problem.fault.code is Code.SERVER_REFUSED:
            raise Stop(problem.fault.detail, Exit.CONFIGURATION) from problem
        raise
    until = datetime.fromtimestamp(found.ends, UTC).isoformat(timespec="seconds") if found.ends else ""
    if style == "json":
        say(json.dumps({"token_file": str(found.token_file), "issuer": found.issuer, "ends": until}))
    else:
        say(f"token: {found.token_file}" + (f" (holds until {until})" if until else ""))
