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
