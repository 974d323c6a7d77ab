"""The command `pilot`."""

import sys


def main() -> None:
    """Runs the command line; every error is one line on stderr and an exit code of docs/reference."""
    from pilot.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
