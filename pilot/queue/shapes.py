"""Shapes in the file: jobs that ask the same are one shape, so a claim looks at shapes, not at jobs.

Whether a shape fits an offer is worked out once and kept. What figures of an offer are asked at all is known from
the shapes, so an offer is rounded down to the next figure that some shape asks: 15 and 12.7 GiB are the same to jobs
that want 4 or 16. Of an expression only the attributes that it names count. So pilots whose free memory never has the
same value twice still find the answer there.
"""

import hashlib
import json
import re
import sqlite3
from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, replace

from pilot.core.matching import KIB, MIB, NODE_REQUIREMENTS, Fit, Shape, fit, node_ad
from pilot.core.turns import weight
from pilot.model.capability import Accelerator, Offer
from pilot.model.job import Needs
from pilot.model.plain import from_plain, to_plain
from pilot.ports import Matcher

Db = sqlite3.Connection

CLAIMABLE = "queue = ? AND state = 'waiting' AND blockers = 0 AND not_before IS NULL"
HEAD = f"""
SELECT job, place FROM job INDEXED BY claimable WHERE {CLAIMABLE} AND shape = ? ORDER BY place, job LIMIT 1
"""  # noqa: S608 - made of constants
DRIVER = "GPUs_DriverVersion"
WORD = re.compile(r"[A-Za-z_]\w*")
UNFIT = -1
ANSWERS_KEPT = 1_000_000  # some 50 bytes each; 1,000 shapes for 1,000 kinds of offers
JUDGEMENTS_KEPT = 200_000


def shape_number(db: Db, shape: Shape) -> int:
    """The shape's number in this file; a new one gets its row."""
    body = json.dumps(to_plain(shape), sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    row = (digest, shape.owner, weight(shape.needs), body)
    db.execute("INSERT OR IGNORE INTO shape (digest, owner, weight, body) VALUES (?, ?, ?, ?)", row)
    return int(db.execute("SELECT shape FROM shape WHERE digest = ?", (digest,)).fetchone()[0])


def read_shape(db: Db, number: int) -> Shape:
    """The shape of that number."""
    body = db.execute("SELECT body FROM shape WHERE shape = ?", (number,)).fetchone()[0]
    return from_plain(Shape, json.loads(body))


@dataclass(frozen=True, slots=True)
class Asked:
    """One shape, and the words of its expression: what it may name of a node."""

    shape: Shape
    words: frozenset[str]


class Fitting:
    """Which shapes an offer fits. A row of `shape` never changes, so what was worked out once is kept."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._asked: dict[int, Asked] = {}
        self._steps: tuple[list[int], list[int], list[int]] = ([], [], [])  # of cpus, MiB and KiB that are asked
        self._answers: dict[tuple[object, ...], dict[int, int]] = {}
        self._kept = 0
        self._judged: dict[tuple[object, ...], bool] = {}

    def load(self, db: Db, number: int) -> None:
        """Reads a shape that is not known yet."""
        if number not in self._asked:
            shape = read_shape(db, number)
            self._asked[number] = Asked(shape, _words(shape.requirements))
            for needs in shape.needs:
                for steps, figure in zip(self._steps, _figures(needs), strict=True):
                    if figure not in steps:
                        insort(steps, figure)

    def of(self, offer: Offer) -> Callable[[int], bool]:
        """Whether that offer fits a shape that was read."""
        plain = self._rounded(offer)
        signature = _signature(plain)
        answers = self._answers.setdefault(signature, {})
        question = Question(offer, signature)
        told: dict[int, bool] = {}

        def fits(number: int) -> bool:
            found = told.get(number)
            if found is None:
                least = answers.get(number)
                if least is None:
                    least = answers[number] = self._least(self._asked[number].shape, plain)
                    self._note_answer()
                found = told[number] = not (least == UNFIT or 0.0 < offer.seconds < least) and self._judge(
                    number, question
                )
            return found

        return fits

    def _rounded(self, offer: Offer) -> Offer:
        """A bare offer that the same shapes fit, as far as they name no attributes; without an end."""
        figures = (offer.cpus, offer.memory_bytes // MIB, offer.scratch_bytes // KIB)
        cpus, memory, scratch = (_down(steps, each) for steps, each in zip(self._steps, figures, strict=True))
        devices = tuple(Accelerator("", "", "", each.memory_bytes, each.capability, "", each.health)
                        for each in offer.devices if each.health == "ok")  # fmt: skip
        driver = tuple(each for each in offer.attributes if each[0] == DRIVER)
        return Offer("", "", cpus, memory * MIB, scratch * KIB, 0.0, devices, offer.runtime, (), "", "", driver)

    def _least(self, shape: Shape, plain: Offer) -> int:
        """The shortest time that a variant asks which fits otherwise; UNFIT where none does."""
        bare = replace(shape, requirements="")
        fitting = [
            needs.walltime_seconds
            for needs in shape.needs
            if isinstance(fit(replace(bare, needs=(needs,)), plain, self._matcher), Fit)
        ]
        return min(fitting, default=UNFIT)

    def _note_answer(self) -> None:
        self._kept += 1
        if self._kept > ANSWERS_KEPT:
            self._answers.clear()
            self._kept = 0

    def _judge(self, number: int, question: "Question") -> bool:
        """What the expressions say, of the job and of the node: by all that the answer hangs on."""
        asked = self._asked[number]
        if not (question.condition or asked.shape.requirements):
            return True
        key = (number, *question.seen(asked))
        if key not in self._judged:
            if len(self._judged) >= JUDGEMENTS_KEPT:
                self._judged.clear()
            self._judged[key] = isinstance(fit(asked.shape, question.offer, self._matcher), Fit)
        return self._judged[key]


class Question:
    """An offer as expressions see it."""

    def __init__(self, offer: Offer, signature: tuple[object, ...]) -> None:
        self.offer = offer
        self.condition = str(dict(offer.attributes).get(NODE_REQUIREMENTS, ""))
        self._signature = signature
        self._words = _words(self.condition)
        self._ad: dict[str, object] = {}

    def seen(self, asked: Asked) -> tuple[object, ...]:
        """All of the offer on which it hangs whether it fits a shape: figures, times, and the attributes named."""
        if not self._ad:
            self._ad = {name.lower(): value for name, value in sorted(node_ad(self.offer).items())}
        seconds, words = self.offer.seconds, asked.words | self._words
        times = tuple(not seconds or seconds >= each.walltime_seconds for each in asked.shape.needs)
        named = self._ad if "'" in words else sorted(words & self._ad.keys())
        return self._signature, self.condition, times, repr([(each, self._ad[each]) for each in named])


def _words(expression: str) -> frozenset[str]:
    """The names in an expression; a quoted name may be any, which the quote stands for."""
    found = {each.lower() for each in WORD.findall(expression)}
    return frozenset(found | ({"'"} if "'" in expression else set()))


def _figures(needs: Needs) -> tuple[int, int, int]:
    """What is asked, in the units in which matching compares."""
    return needs.cpus, -(-needs.memory_bytes // MIB), -(-needs.scratch_bytes // KIB)


def _down(steps: list[int], figure: int) -> int:
    """The largest step that the figure reaches; 0 below all."""
    place = bisect_right(steps, figure)
    return steps[place - 1] if place else 0


def _signature(plain: Offer) -> tuple[object, ...]:
    return (plain.cpus, plain.memory_bytes, plain.scratch_bytes, plain.runtime, plain.devices, plain.attributes)
