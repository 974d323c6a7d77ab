"""`pilot run`: the pilot itself, on a queue or for one job."""

from pathlib import Path

import click

from pilot.cli.units import DURATION


@click.command(
    name="run",
    epilog="Examples: pilot run --queue sqlite:/data/queue.db --idle-exit 5m | "
    "pilot run --job demo/job.yaml --output /tmp/out",
)
@click.option("--queue", metavar="URL", help="Where the work is: sqlite:PATH or https://HOST:PORT.")
@click.option("--job", type=click.Path(path_type=Path), metavar="FILE", help="Run this one job, without a queue.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the outputs of --job land.")
@click.option("--queue-name", metavar="NAME", help="The queue within the file.")
@click.option("--max-jobs", type=click.IntRange(1), help="Leave after so many jobs.")
@click.option("--idle-exit", type=DURATION, help="Leave after so long without work.")
@click.option("--lifetime", type=DURATION, help="Leave after so long, in good order.")
@click.option("--dry-run", is_flag=True, help="Say what would run, with the exact container command; run nothing.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The pilot's configuration.")
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Journal and log; locked.")
@click.option("--runtime", type=click.Choice(["apptainer", "bare"]), help="How payloads are contained.")
@click.option("--adopt-window", type=DURATION, help="How long payloads outlive a crashed pilot.")
@click.option("--prefetch", type=click.IntRange(0), help="Jobs to hold beyond those that can start.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, readable=False),  # whether it can be read is looked at where it is read
    metavar="FILE",
    help="The pilot's token for the queue.",
)
@click.option("--reflect-exit-status", is_flag=True, help="Exit 20 unless every job succeeded.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much is logged.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    *,
    style: str,
    job: Path | None,
    output: Path | None,
    dry_run: bool,
    config: Path | None,
    reflect_exit_status: bool,
    **flags: object,
) -> int:
    """Claims jobs, runs them, stores what they make, reports; or runs one job with --job.

    Signals: TERM or INT stops in good order (checkpoint, report, leave), again at once; QUIT finishes what runs and
    takes no more; USR1 asks payloads to save now.
    """
    from pilot.cli.running import Request, run_one_job, run_queue, settings_of
    from pilot.config.home import full_path

    for name in ("state", "token_file"):
        found = flags[name]
        flags[name] = full_path(found) if isinstance(found, Path) else None
    request = Request(style, job, output, dry_run, reflect_exit_status, both=bool(job and flags["queue"]))
    settings = settings_of(flags, config)
    return run_queue(settings, request) if job is None else run_one_job(settings, request)
