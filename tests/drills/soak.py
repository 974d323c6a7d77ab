"""The long kill drill: shows progress, stops at so many kills or minutes, ends with a dated block of Markdown."""

import argparse
import os
import platform
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from tests.drills.campaign import AT_ONCE, Tally, campaign, plans, survey
from tests.drills.points import elsewhere, points
from tests.drills.rounds import Drill, Nursery, Plan

PROGRESS_SECONDS = 30.0


def main() -> int:
    """Exit code 1 if anything was wrong."""
    asked = _asked()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        nursery = Nursery()
        tally, passed = _run(Drill(Path(folder), nursery), Path(folder), asked)
        nursery.close()
        sys.stdout.write(_block(asked, tally, passed, time.monotonic() - began))
    return int(bool(tally.violations))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="stop then, whatever has been reached")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="rounds at the same time")
    return parser.parse_args()


def _run(drill: Drill, folder: Path, asked: argparse.Namespace) -> tuple[Tally, int]:
    courses, tally = survey(drill, folder)
    passed = {point for course in courses for point in course.passed}
    tally.violations += [f"{point}: no round passes it" for point in sorted(points() - passed - elsewhere())]
    sys.stderr.writelines(f"soak: {each}\n" for each in tally.violations)
    source = _until(plans(courses, random.Random(asked.seed)), asked.minutes)
    said = time.monotonic()
    for result in campaign(drill, source, asked.kills, asked.at_once):
        before = len(tally.violations)
        tally.add(result)
        for each in tally.violations[before:]:
            sys.stderr.write(f"soak: {each}\n")
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            sys.stderr.write(f"soak: {tally.struck:,} of {asked.kills:,} kills, {len(tally.violations)} violations\n")
    return tally, len(passed)


def _until(source: Iterator[Plan], minutes: float) -> Iterator[Plan]:
    end = time.monotonic() + minutes * 60 if minutes else float("inf")
    return takewhile(lambda _: time.monotonic() < end, source)


def _block(asked: argparse.Namespace, tally: Tally, passed: int, seconds: float) -> str:
    middle = sorted(tally.seconds)[len(tally.seconds) // 2]
    user = "root" if os.getuid() == 0 else "an ordinary user"
    kinds = ", ".join(f"{name} {count:,}" for name, count in sorted(tally.by_scenario.items()))
    # 3/N: the 95 % upper bound of a rate of which nothing was seen in N tries.
    bound = f"; the rate is below {3 / tally.struck:.1e} per kill (95 %)" if not tally.violations else ""
    return f"""
### Kill drill, {datetime.now(UTC):%Y-%m-%d}

`scripts/soak {shlex.join(sys.argv[1:])}` with `--seed {asked.seed}`, as {user}, {os.cpu_count()} cores, Python
{platform.python_version()}, Linux {platform.release()}, {seconds / 60:.0f} minutes.

| figure | value |
|---|---|
| kills with -9 (pilot, supervisor, or both) | {tally.struck:,} |
| rounds | {tally.rounds:,} ({kinds}) |
| points passed of those that the code lists | {passed} of {len(points())}; {len(elsewhere())} are named with a reason |
| violations | {len(tally.violations)}{bound} |
| from a restart to the last word about a dead pilot's attempt, longest | {tally.slowest:.2f} s, {tally.slowest_plan} |
| median round | {middle:.2f} s |
"""


if __name__ == "__main__":
    sys.exit(main())
