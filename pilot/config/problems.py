"""What is wrong with a file that a person wrote: every problem of it, each with its place."""

from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 25  # a file with more problems than a screen holds is not read problem by problem


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: the file, where in it (counted from 1; 0 = the whole file), and one line of text."""

    source: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.source}{place}: {self.message}"


class ConfigProblems(Exception):
    """A file cannot be used as written; `problems` names every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line per problem, as a person is told."""
        lines = [str(each) for each in self.problems[:SHOWN]]
        more = len(self.problems) - SHOWN
        return [*lines, f"{self.problems[0].source}: and {more} more problems"] if more > 0 else lines


class JobProblems(ConfigProblems):
    """A job file cannot be used as written."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to put behind a message: the nearest known word, or all of them where there are few."""
    from difflib import get_close_matches

    words = sorted(known)
    near = get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(words)}" if len(words) <= 8 else ""


def shown(value: object) -> str:
    """A value from a file as a message may show it: short, on one line, nothing a terminal would act on."""
    if value is None:
        return "nothing"
    kind = _KINDS.get(type(value))
    if kind is not None and isinstance(value, list | dict):
        return kind
    text = ascii(value) if isinstance(value, str) else str(value).lower()
    return f"{kind} {text if len(text) <= 60 else text[:57] + '...'}"


_KINDS: dict[type, str] = {str: "text", int: "the number", float: "the number", bool: "the truth value"}
_KINDS |= {list: "a list", dict: "a mapping"}
