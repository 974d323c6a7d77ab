"""The user's home, where defaults lie; a batch slot may have none."""

from pathlib import Path

from pilot.config.problems import ConfigProblems, Problem


def home() -> Path:
    """The home directory; without one, what to set instead is the user's to say."""
    try:
        return Path.home()
    except RuntimeError:
        advice = "no home directory here: set HOME, or PILOT_CACHE and PILOT_STATE"
        raise ConfigProblems([Problem("environment", 0, 0, advice)]) from None


def full_path(path: Path) -> Path:
    """The absolute path as it was written; one with `..`, which no file URL may hold, with its links followed."""
    whole = path.absolute()
    return whole.resolve() if ".." in whole.parts else whole
