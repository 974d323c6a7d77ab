"""What is remembered of which shape fits which offer is what matching says, for any offer and any shape."""

import random
from dataclasses import replace

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.core.matching import Fit, Shape, fit
from pilot.model.capability import Accelerator, Offer
from pilot.model.job import GpuNeeds, Needs
from pilot.queue import shapes
from pilot.queue.shapes import Fitting, shape_number
from tests.contracts.server_beds import GIB, LocalBed

EXPRESSIONS = (
    "", "", "", "TARGET.Memory > 4000",
    "TARGET.Microarch >= \"x86_64-v3\"", "SecondsLeft > 1000", "TARGET.Name == \"n3/p\"",
    "TARGET.'Disk' > 9000000 && Tier == 2", "member(\"ml\", TARGET.Images)", "MY.RequestCpus < 3", "TARGET.GPUs > 1",
)  # fmt: skip
CONDITIONS = ("", "", "TARGET.RequestCpus > 1", 'TARGET.Owner == "ada" || MY.Cpus > 6', "TARGET.RequestWalltime < 5000")


def some_needs(chance: random.Random) -> Needs:
    gpus = GpuNeeds(chance.randrange(4), chance.choice([0, 8 * GIB]), chance.choice(["", ">=8.0"]),
                    chance.choice(["", ">=12.0"]))  # fmt: skip
    memory, scratch = chance.choice([0, 1, GIB, 4 * GIB, 4 * GIB + 1]), chance.choice([0, 5, GIB, 9 * GIB])
    return Needs(chance.randrange(1, 9), memory, scratch, chance.choice([0, 600, 3600]), gpus)


def some_shape(chance: random.Random) -> Shape:
    needs = tuple(some_needs(chance) for _ in range(chance.choice([1, 1, 2, 3])))
    owner, expression = chance.choice("ab"), chance.choice(EXPRESSIONS)
    return Shape(owner, chance.random() < 0.8, "none", "batch", needs, expression)


def some_offer(chance: random.Random) -> Offer:
    number = chance.randrange(9)
    devices = tuple(
        Accelerator(f"G{number}{each}", "nvidia", "A", chance.choice([4, 16]) * GIB, chance.choice(["7.0", "9.0"]),
                    health=chance.choice(["ok", "ok", "lost"]))
        for each in range(chance.randrange(4))
    )  # fmt: skip
    attributes = [("Tier", chance.randrange(3)), ("GPUs_DriverVersion", chance.choice(["11.4", "12.4"]))]
    attributes += [("Requirements", each)] if (each := chance.choice(CONDITIONS)) else []
    return Offer(f"n{number}/p", f"n{number}", chance.randrange(1, 10), chance.randrange(8 * GIB),
                 chance.randrange(12 * GIB), chance.choice([0.0, 599.5, 600.0, 4000.0]), devices,
                 chance.choice(["apptainer", "bare", "none"]), chance.choice([(), ("ml",)]), "x86_64",
                 chance.choice(["x86_64-v2", "x86_64-v4"]), tuple(attributes))  # fmt: skip


def test_what_is_remembered_is_what_matching_says(bed: LocalBed) -> None:
    chance, matcher = random.Random(7), ClassAdMatcher()
    fitting, known = Fitting(matcher), {}
    answers = [0, 0]
    with bed.store().writing() as db:
        for _ in range(25):
            for each in (some_shape(chance) for _ in range(3)):  # shapes come while offers are already remembered
                number = shape_number(db, each)
                fitting.load(db, number)
                known[number] = each
            for offer in (some_offer(chance) for _ in range(12)):
                fits = fitting.of(offer)
                for number, shape in known.items():
                    said = isinstance(fit(shape, offer, matcher), Fit)
                    assert fits(number) is said, (shape, offer)
                    answers[said] += 1
    assert min(answers) > 300


class CountingMatcher(ClassAdMatcher):
    asked = 0

    def why_not(self, *given):  # type: ignore[no-untyped-def]
        self.asked += 1
        return super().why_not(*given)


def test_free_memory_that_is_never_the_same_asks_nothing_again(bed: LocalBed) -> None:
    matcher = CountingMatcher()
    fitting = Fitting(matcher)
    plain = Shape("a", True, "none", "batch", (Needs(2, 4 * GIB),))
    with bed.store().writing() as db:
        numbers = [shape_number(db, replace(plain, requirements=each)) for each in ("", "TARGET.Tier == 2")]
        for each in numbers:
            fitting.load(db, each)
    for each in range(50):
        offer = Offer(
            f"n{each}/p", f"n{each}", 8, (5 << 30) + each, (9 << 30) + each, 500.0 + each, attributes=(("Tier", 2),)
        )
        assert [fitting.of(offer)(number) for number in numbers] == [True, True]
    assert matcher.asked == 1
    assert len(fitting._answers) == 1


def test_memory_is_bounded(bed: LocalBed, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(shapes, "ANSWERS_KEPT", 5)
    monkeypatch.setattr(shapes, "JUDGEMENTS_KEPT", 5)
    fitting = Fitting(ClassAdMatcher())
    with bed.store().writing() as db:
        number = shape_number(db, Shape("a", True, "none", "batch", (Needs(2),), "TARGET.Tier > 5"))
        fitting.load(db, number)
    for each in range(30):
        devices = (Accelerator("", "", "", each, "1"),)
        offer = Offer("p", "h", 8, GIB, GIB, devices=devices, attributes=(("Tier", each),))
        assert fitting.of(offer)(number) is (each > 5)
    assert len(fitting._judged) <= 5
    assert sum(map(len, fitting._answers.values())) <= 6
