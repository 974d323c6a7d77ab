"""Matching as a table: what is asked, what is offered, what refuses first."""

from dataclasses import replace

import pytest

from pilot.core.matching import Fit, Refusal, Shape, fit, job_ad, node_ad, shape_of
from pilot.model.capability import Accelerator, Offer
from pilot.model.job import GpuNeeds, JobSpec, Needs
from pilot.model.queue import MatchMiss

GIB = 1 << 30


class Table:
    """A judge that knows its answers, and what it was asked."""

    def __init__(self, **answers: MatchMiss) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, object], dict[str, object]]] = []

    def why_not(self, expression: str, target: dict[str, object], own: dict[str, object]) -> MatchMiss | None:
        self.asked.append((expression, target, own))
        return self.answers.get(expression)


def gpu(memory: int = 40, capability: str = "8.0", model: str = "A100", health: str = "ok") -> Accelerator:
    return Accelerator("GPU-1", "nvidia", model, memory * GIB, capability, health=health)


OFFER = Offer(
    "p1", "node", 4, 8 * GIB, 50 * GIB, seconds=3600, devices=(gpu(), gpu()), microarch="x86_64-v3",
    images=("ml-base",), attributes=(("GPUs_DriverVersion", 12.4), ("Site", "here"), ("Cpus", 99)),
)  # fmt: skip


def shape(*needs: Needs, **more: str) -> Shape:
    return shape_of(JobSpec("a", ("true",), image="ml-base", needs=needs or (Needs(),), **more), "ada")  # type: ignore[arg-type]


def gpus(count: int = 1, **more: object) -> Needs:
    return Needs(gpus=GpuNeeds(count, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "needs",
    [
        Needs(),
        Needs(cpus=4, memory_bytes=8 * GIB, scratch_bytes=50 * GIB, walltime_seconds=3600),
        gpus(2, memory_bytes=40 * GIB, capability=">=8.0,<9", cuda=">=12.0"),
        gpus(1, cuda="12.4"),
    ],
)
def test_what_fits(needs: Needs) -> None:
    assert fit(shape(needs), OFFER, Table()) == Fit(0)


@pytest.mark.parametrize(
    ("needs", "offer", "clause", "attribute", "wanted", "offered"),
    [
        (Needs(cpus=5), OFFER, "needs.cpus", "Cpus", "5", "4"),
        (Needs(memory_bytes=8 * GIB + 1), OFFER, "needs.memory", "Memory", "8193", "8192"),
        (Needs(scratch_bytes=51 * GIB), OFFER, "needs.scratch", "Disk", str(51 << 20), str(50 << 20)),
        (Needs(walltime_seconds=3601), OFFER, "needs.walltime", "SecondsLeft", "3601", "3600"),
        (gpus(3), OFFER, "needs.gpus.count", "GPUs", "3", "2"),
        (gpus(2), replace(OFFER, devices=(gpu(), gpu(health="lost"))), "needs.gpus.count", "GPUs", "2", "1"),
        (gpus(2, memory_bytes=41 * GIB), OFFER, "needs.gpus.memory", "GPUs_GlobalMemoryMb", "41984", "40960"),
        (gpus(1, capability=">=9.0"), OFFER, "needs.gpus.capability", "GPUs_Capability", ">=9.0", "8.0"),
        (
            gpus(1, capability="9"),
            replace(OFFER, devices=(gpu(), gpu(capability=""))),
            "needs.gpus.capability",
            "GPUs_Capability",
            "9",
            "8.0, undefined",
        ),
        (gpus(1, cuda=">=13"), OFFER, "needs.gpus.cuda", "GPUs_DriverVersion", ">=13", "12.4"),
        (
            gpus(1, cuda=">=13"),
            replace(OFFER, attributes=()),
            "needs.gpus.cuda",
            "GPUs_DriverVersion",
            ">=13",
            "undefined",
        ),
        (Needs(), replace(OFFER, runtime="none"), "runtime", "Runtime", "a working runtime", "none"),
    ],
)
def test_the_first_clause_that_refuses(
    needs: Needs, offer: Offer, clause: str, attribute: str, wanted: str, offered: str
) -> None:
    found = fit(shape(needs), offer, Table())
    assert isinstance(found, Refusal)
    assert (found.clause, found.attribute, found.wanted, found.offered) == (clause, attribute, wanted, offered)


def test_an_offer_without_end_has_time_for_all() -> None:
    assert fit(shape(Needs(walltime_seconds=10**9)), replace(OFFER, seconds=0.0), Table()) == Fit(0)


def test_a_job_without_an_image_runs_where_jobs_run_bare() -> None:
    bare = replace(shape(), container=False)
    refused = fit(bare, OFFER, Table())
    assert isinstance(refused, Refusal)
    assert refused.clause == "image"
    assert fit(bare, replace(OFFER, runtime="bare"), Table()) == Fit(0)
    assert fit(shape(), replace(OFFER, runtime="bare"), Table()) == Fit(0)


def test_the_first_variant_that_fits_is_taken() -> None:
    variants = shape(Needs(cpus=64), Needs(cpus=4), Needs(cpus=1))
    assert fit(variants, OFFER, Table()) == Fit(1)


def test_of_variants_that_do_not_fit_the_one_that_came_furthest_speaks() -> None:
    found = fit(shape(Needs(cpus=64), gpus(4), Needs(cpus=65)), OFFER, Table())
    assert isinstance(found, Refusal)
    assert found.clause == "needs.gpus.count"


def test_requirements_are_asked_both_ways() -> None:
    judge = Table()
    closed = replace(OFFER, attributes=(("Requirements", "Owner"),))
    assert fit(shape(requirements="Mine"), closed, judge) == Fit(0)
    (first, node, job), (second, seen_job, seen_node) = judge.asked
    assert (first, second) == ("Mine", "Owner")
    assert (node, job) == (seen_node, seen_job)
    assert (job["Owner"], node["Machine"]) == ("ada", "node")


@pytest.mark.parametrize(("expression", "clause"), [("Mine", "requirements"), ("Theirs", "node requirements")])
def test_an_expression_that_is_not_true_names_its_part(expression: str, clause: str) -> None:
    judge = Table(**{expression: MatchMiss("Foo > 1", "Foo", "undefined")})
    offer = replace(OFFER, attributes=(("Requirements", "Theirs"),))
    found = fit(shape(requirements="Mine"), offer, judge)
    assert isinstance(found, Refusal)
    assert (found.clause, found.attribute, found.wanted, found.offered) == (clause, "Foo", "Foo > 1", "undefined")


def test_nothing_is_asked_where_nothing_is_required() -> None:
    judge = Table()
    fit(shape(), OFFER, judge)
    assert judge.asked == []


def test_the_node_as_expressions_see_it() -> None:
    ad = node_ad(replace(OFFER, arch="aarch64"))
    assert ad["Cpus"] == 4  # what was probed stands; a label cannot claim more
    assert (ad["Site"], ad["Arch"], ad["OpSys"], ad["HasSingularity"]) == ("here", "aarch64", "LINUX", True)
    assert (ad["Memory"], ad["Disk"], ad["SecondsLeft"], ad["Images"]) == (8192, 50 << 20, 3600, ["ml-base"])
    assert (ad["GPUs"], ad["GPUs_GlobalMemoryMb"], ad["GPUs_Capability"]) == (2, 40960, 8.0)
    assert ad["GPUs_DeviceName"] == "A100"
    assert node_ad(replace(OFFER, arch="riscv64"))["Arch"] == "riscv64"
    assert node_ad(OFFER)["Arch"] == "X86_64"


def test_of_unlike_devices_the_least_is_advertised() -> None:
    ad = node_ad(replace(OFFER, devices=(gpu(), gpu(16, "7.5", "T4"), gpu(health="lost")), seconds=0.0))
    assert (ad["GPUs"], ad["GPUs_GlobalMemoryMb"], ad["GPUs_Capability"]) == (2, 16384, 7.5)
    assert "GPUs_DeviceName" not in ad
    assert "SecondsLeft" not in ad
    assert "GPUs_Capability" not in node_ad(replace(OFFER, devices=(gpu(capability="gfx90a"),)))
    assert node_ad(replace(OFFER, devices=()))["GPUs"] == 0


def test_the_job_as_nodes_see_it() -> None:
    needs = Needs(2, GIB + 1, GIB, 60, GpuNeeds(1))
    ad = job_ad(shape(needs, network="outbound"), needs)
    assert (ad["RequestCpus"], ad["RequestMemory"], ad["RequestDisk"], ad["RequestGPUs"]) == (2, 1025, 1 << 20, 1)
    assert (ad["RequestWalltime"], ad["WantNetwork"], ad["WantContainer"], ad["JobKind"]) == (
        60,
        "outbound",
        True,
        "batch",
    )
