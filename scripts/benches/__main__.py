"""`scripts/bench NAME`."""

import argparse
import sys

from benches import imports, overhead, queue, serve, throughput
from benches.table import show

BENCHES = {
    "overhead": overhead.measure,
    "throughput": throughput.measure,
    "imports": imports.measure,
    "queue": queue.measure,
    "serve": serve.measure,
}


def main() -> int:
    """Runs one benchmark and prints it."""
    parser = argparse.ArgumentParser(prog="scripts/bench", epilog="Example: scripts/bench overhead --rounds 20")
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--full", action="store_true", help="queue: 10 M jobs too")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    options = parser.parse_args()
    found = BENCHES[options.name](options)
    show(found, options.format)
    return 0


sys.exit(main())
