"""The command `pilot`."""

import os
import sys
import traceback
from types import TracebackType


def main() -> None:
    """Runs the command line; every error is one line on stderr and an exit code of docs/reference."""
    sys.excepthook = _internal
    from pilot.cli.main import run

    sys.exit(run(sys.argv[1:]))


def _internal(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    """What nobody expected: one line, the whole story only where it is asked for, exit code 70."""
    if os.environ.get("PILOT_TRACEBACK"):
        traceback.print_exception(kind, problem, trace)
    sys.stderr.write(f"pilot: internal error: {kind.__name__}: {problem}; PILOT_TRACEBACK=1 shows where\n")
    sys.stderr.flush()
    os._exit(70)


if __name__ == "__main__":
    main()
