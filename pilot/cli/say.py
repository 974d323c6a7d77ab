"""What programs may read goes to stdout, line by line, at once."""

import sys


def say(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
