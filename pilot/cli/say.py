"""What programs may read goes to stdout, line by line, at once; what is only for people goes to stderr."""

import os
import sys


def say(text: str) -> None:
    """One line on stdout; where nobody reads any more, nothing, from now on."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # only the pilot sees it: to other commands the signal is the end
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say_aside(text: str) -> None:
    """One line for people, on stderr."""
    sys.stderr.write(f"pilot: {text}\n")
