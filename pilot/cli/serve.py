"""`pilot queue serve` and `pilot queue token`: the queue for pilots and users of other machines."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from pilot.cli.exits import Exit, Stop
from pilot.cli.say import say
from pilot.cli.units import DURATION
from pilot.cli.who import user as this_user
from pilot.model.faults import Code
from pilot.ports import PortError

if TYPE_CHECKING:
    from pilot.assemble.serve import Issuer, Serving, StorageAt

ROLES = click.Choice(["pilot", "submitter", "operator"])
FILE = click.Path(path_type=Path)
BY_SIGNAL = {15: Exit.TERMINATED, 2: Exit.INTERRUPTED}
SHORTEST_SECONDS, LONGEST_SECONDS = 60.0, 3650 * 86400.0


@click.command(
    name="serve",
    epilog="Example: pilot queue serve --queue sqlite:/data/queue.db --setup, then without --setup",
)
@click.option("--queue", "url", metavar="URL", envvar="PILOT_QUEUE", help="sqlite:PATH, or $PILOT_QUEUE.")
@click.option("--listen", metavar="HOST:PORT", default="*:25443", show_default=True, help="[ADDRESS]:PORT for IPv6.")
@click.option("--setup", is_flag=True, help="Make keys, certificate and first tokens; then leave.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="A further name or address for the certificate.")
@click.option("--keys", type=FILE, metavar="DIR", help="Where the keys are; default: beside the queue.")
@click.option("--tls-cert", type=FILE, metavar="FILE", help="A certificate in place of the one that --setup made.")
@click.option("--tls-key", type=FILE, metavar="FILE", help="Its key.")
@click.option("--insecure-loopback", is_flag=True, help="Plain http, no tokens: for this machine alone.")
@click.option("--open-board", is_flag=True, help="The web page and /metrics need no token: all may see all jobs.")
@click.option("--issuer", metavar="URL", help="Accept the tokens of this OIDC issuer too.")
@click.option("--audience", metavar="TEXT", help="The audience that its tokens must name.")
@click.option("--group", "groups", multiple=True, metavar="ROLE=GROUP", help="Which of its groups has which role.")
@click.option("--user-claim", default="sub", show_default=True, help="Which claim of its tokens names the user.")
@click.option("--issuer-ca", type=FILE, metavar="FILE", help="The authority of its certificate.")
@click.option("--login-client", metavar="ID", default="ml-grid-pilot", help="As whom `pilot login` asks the issuer.")
@click.option("--storage-key", type=FILE, metavar="FILE", help="Mint storage tokens for each attempt with this key.")
@click.option("--storage-issuer", metavar="URL", help="Who the storage believes has minted them.")
@click.option("--storage-audience", metavar="TEXT", default="https://wlcg.cern.ch/jwt/v1/any", show_default=True)
@click.option("--storage-base", metavar="PATH", default="/", help="The outputs' folder, as the storage names it.")
@click.option("--shared-file", is_flag=True, help="Others may open the file itself, past tokens: so it is meant.")
@click.option(
    "--user-jobs",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="So many jobs of one user may wait.",
)
@click.option(
    "--user-code",
    type=click.IntRange(1),
    default=64,
    metavar="MIB",
    show_default=True,
    help="Code of one user that no job has named yet.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def serve(*, url: str | None, setup: bool, names: tuple[str, ...], keys: Path | None, **flags: object) -> int:
    """Serves a queue over HTTPS, to pilots and users with tokens; PanDA's calls are answered too.

    Signals: TERM or INT answers what is open and leaves; HUP reads keys and certificate again.
    """
    from pilot.assemble.queue import queue_path
    from pilot.assemble.serve import default_keys, set_up_keys

    if not url:
        raise Stop("no queue: give --queue sqlite:PATH, or set PILOT_QUEUE", Exit.CONFIGURATION)
    if not queue_path(url).exists():
        raise Stop(f"{queue_path(url)}: no queue here; make one: pilot queue init --queue {url}", Exit.UNAVAILABLE)
    folder = keys or default_keys(url)
    _check_together(setup, names, flags)
    if not setup:
        return _serve(url, folder, flags)
    for line in set_up_keys(folder, names, this_user()):
        say(line)
    return 0


def _check_together(setup: bool, names: tuple[str, ...], flags: dict[str, object]) -> None:
    """Options that mean nothing alone are a mistake that would be found late."""
    if names and not setup:
        raise Stop(
            "--name is for --setup, which makes the certificate: give both, then send the service a HUP", Exit.USAGE
        )
    if (flags["tls_cert"] is None) != (flags["tls_key"] is None):
        raise Stop("--tls-cert and --tls-key belong together: give both, or none", Exit.USAGE)
    alone = [each for each in ("audience", "groups", "issuer_ca") if flags[each] and not flags["issuer"]]
    if alone:
        raise Stop(f"--{alone[0].rstrip('s').replace('_', '-')} needs --issuer", Exit.USAGE)


def _serve(url: str, keys: Path, flags: dict[str, object]) -> int:
    from pilot.assemble.serve import serve as run

    try:
        ended_by = run(_serving(url, keys, flags), str(flags["log_level"]), say)
    except PortError as problem:
        if problem.fault.code is Code.SERVER_REFUSED:
            raise Stop(problem.fault.detail, Exit.CONFIGURATION) from problem
        raise
    return BY_SIGNAL.get(ended_by, Exit.OK)


def _serving(url: str, keys: Path, flags: dict[str, object]) -> "Serving":
    from pilot.assemble.serve import Serving

    return Serving(
        url,
        keys,
        str(flags["listen"]),
        certificate=_path(flags["tls_cert"]),
        key=_path(flags["tls_key"]),
        plain=bool(flags["insecure_loopback"]),
        issuer=_issuer(flags),
        storage=_storage(flags),
        open_board=bool(flags["open_board"]),
        login_client=str(flags["login_client"]),
        shared_file=bool(flags["shared_file"]),
        user_jobs=int(str(flags["user_jobs"])),
        user_code=int(str(flags["user_code"])) << 20,
    )


def _issuer(flags: dict[str, object]) -> "Issuer | None":
    from pilot.assemble.serve import Issuer

    if not flags["issuer"]:
        return None
    groups = flags["groups"]
    _check_issuer(str(flags["issuer"]))
    if not flags["audience"] or not isinstance(groups, tuple) or not groups:
        raise Stop("--issuer needs --audience, and --group ROLE=GROUP for each role", Exit.USAGE)
    claim, ca = str(flags["user_claim"]), _path(flags["issuer_ca"])
    return Issuer(str(flags["issuer"]), str(flags["audience"]), groups, claim, ca)


def _check_issuer(url: str) -> None:
    """Its keys are believed, so they come over a line that is."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise Stop(f"--issuer {url}: an https:// address is needed", Exit.USAGE)


def _storage(flags: dict[str, object]) -> "StorageAt | None":
    from pilot.assemble.serve import StorageAt

    key = _path(flags["storage_key"])
    if key is None:
        return None
    if not flags["storage_issuer"]:
        raise Stop("--storage-key needs --storage-issuer", Exit.USAGE)
    return StorageAt(key, str(flags["storage_issuer"]), str(flags["storage_audience"]), str(flags["storage_base"]))


def _path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None


@click.command(
    name="token",
    epilog="Example: pilot queue token --queue sqlite:/data/queue.db --role submitter --user anna --lifetime 30d",
)
@click.option("--queue", "url", metavar="URL", envvar="PILOT_QUEUE", help="sqlite:PATH, or $PILOT_QUEUE.")
@click.option("--keys", type=FILE, metavar="DIR", help="Where the queue's keys are; default: beside the queue.")
@click.option("--role", type=ROLES, required=True, help="pilot: runs jobs; submitter: the own jobs; operator: all.")
@click.option("--user", required=True, metavar="NAME", help="Who it is: the owner of the jobs handed in with it.")
@click.option("--lifetime", type=DURATION, default=30 * 86400.0, help="How long it holds; default 30d.")
@click.option("--out", type=FILE, metavar="FILE", help="Where it is written; default: into the folder of keys.")
def token(url: str | None, keys: Path | None, role: str, user: str, lifetime: float, out: Path | None) -> None:
    """Makes a token for the served queue, in a file that only you can read; prints where."""
    from pilot.assemble.serve import default_keys, mint

    if not url and not keys:
        raise Stop("no queue: give --queue sqlite:PATH or --keys DIR, or set PILOT_QUEUE", Exit.CONFIGURATION)
    if not SHORTEST_SECONDS <= lifetime <= LONGEST_SECONDS:
        raise Stop(f"--lifetime {lifetime:g}s: between 60s and 3650d", Exit.USAGE)
    say(str(mint(keys or default_keys(url or ""), role, user, lifetime, out)))
