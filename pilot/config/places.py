"""Where the pilot keeps things when nobody says: computed from the environment, never from a job."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pilot.config.settings import Settings

Environment = Mapping[str, str]


def scratch_place(settings: Settings, environment: Environment) -> Path:
    """Where sandboxes are made: as configured, else what the batch system gave, else the system's temporary place."""
    given = settings.scratch or environment.get("_CONDOR_SCRATCH_DIR") or environment.get("TMPDIR")
    return Path(given or "/tmp")  # noqa: S108  # the caller makes a directory of its own in it, mode 0700


def state_place(settings: Settings, environment: Environment, queue: str) -> Path:
    """Journal, outbox and log: in the batch job's scratch directory, else with the user, by queue."""
    if settings.state:
        return Path(settings.state)
    batch = environment.get("_CONDOR_SCRATCH_DIR")
    if batch:
        return Path(batch) / "pilot-state"
    base = environment.get("XDG_STATE_HOME") or str(_home(environment) / ".local/state")
    return Path(base) / "pilot" / hashlib.sha256(queue.encode()).hexdigest()[:16]


def cache_place(settings: Settings, environment: Environment) -> Path:
    """Images, receipts and downloads, which outlive a pilot."""
    if settings.cache:
        return Path(settings.cache)
    return Path(environment.get("XDG_CACHE_HOME") or str(_home(environment) / ".cache")) / "pilot"


def _home(environment: Environment) -> Path:
    return Path(environment.get("HOME") or "~").expanduser()
