"""The values of a sweep on their way into a queue: which line a refusal is about, and lines that say the same twice."""

import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilot.config.problems import JobProblems, Problem
from pilot.config.sweepfile import read_values
from pilot.model.faults import Code
from pilot.ports import PortError

LOOKED_AT = 100_000  # lines among which one that says the same twice is looked for
_ONE_JOB = re.compile(r"job (\d+) of the sweep: (.*)", re.DOTALL)


class Values:
    """The values of a file, line by line; afterwards, which line each job was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = array("L")
        self._seen: set[int] = set()
        self._again = array("L")

    def __iter__(self) -> Iterator[dict[str, str]]:
        for line, values in read_values(self._path):
            self._lines.append(line)
            self._look(line, values)
            yield values

    def warning(self) -> str:
        """A word about lines that repeat one before them; "" where there is none."""
        if not self._again:
            return ""
        which = f"{self._path}:{self._again[0]}: the same values as in a line before"
        more = f"; so are {len(self._again) - 1} more lines" if len(self._again) > 1 else ""
        return f"{which}{more}; each is a job of its own"

    @contextmanager
    def placed(self) -> Iterator[None]:
        """A refusal of one job of the sweep says in which line it stands."""
        try:
            yield
        except PortError as problem:
            if problem.fault.code is not Code.JOB_INVALID:
                raise
            found = _ONE_JOB.search(problem.fault.detail)
            if found and 0 < int(found[1]) <= len(self._lines):
                line, why = self._lines[int(found[1]) - 1], found[2]
            elif ": parameter " in problem.fault.detail:
                line, why = 1, problem.fault.detail
            else:
                raise
            raise JobProblems([Problem(str(self._path), line, 1, why)]) from problem

    def _look(self, line: int, values: dict[str, str]) -> None:
        if len(self._lines) > LOOKED_AT:
            return
        key = hash(tuple(values.items()))
        if key in self._seen:
            self._again.append(line)
        self._seen.add(key)
