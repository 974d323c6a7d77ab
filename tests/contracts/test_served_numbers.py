"""What board and numbers tell whom, and how much of it: nobody's long texts, nobody else's names."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilot.model.faults import Code
from pilot.model.job import VARIANTS_CAP, GpuNeeds, JobSpec, Needs
from pilot.model.queue import Submission
from pilot.ports import Final
from pilot.queue.service import gauges, signing
from pilot.queue.service.call import Role
from pilot.queue.service.face import Shown
from pilot.queue.service.identity import Doorkeeper
from pilot.queue.service.keys import KeyFolder, own_tokens, set_up, write_token
from pilot.queue.service.labels import cut
from pilot.queue.service.views import TEXT_CAP, Counts, OwnerCounts, variants_text
from tests.beds.face import FaceBed, faced
from tests.beds.served import NAMES
from tests.contracts.server_beds import LocalBed, job

MANY = tuple(Needs(cpus=1 + each) for each in range(20_000))
Bed = tuple[FaceBed, KeyFolder]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Bed]:
    """A face with tokens: anna asks for 3 cores, berta for 5."""
    keys = KeyFolder(tmp_path / "keys")
    set_up(keys, NAMES, "owner")
    door = Doorkeeper((own_tokens(keys),), signing.claims_of)
    with faced(tmp_path, Shown(), door) as bed:
        bed.add(job("a", needs=(Needs(cpus=3),)), user="anna")
        bed.add(job("b", needs=(Needs(cpus=5),)), user="berta")
        yield bed, keys


def numbers(bed: Bed, role: Role, user: str, style: str = "prometheus") -> str:
    face, keys = bed
    token = write_token(keys, role, user, 600.0, keys.token(role, user)).read_text().strip()
    reply = face.get("/metrics", token, format=style)
    assert reply.status_code == 200
    return reply.text


def labels(text: str, name: str) -> set[str]:
    series = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {each.labels[name] for each in series if name in each.labels}


def test_a_submitter_is_told_totals_and_the_own_jobs(guarded: Bed) -> None:
    for role, user, owners, asked in (
        (Role.SUBMITTER, "anna", {"anna"}, {"3 cpus"}),
        (Role.SUBMITTER, "prometheus", set(), set()),
        (Role.PILOT, "p", set(), set()),
        (Role.OPERATOR, "boss", {"anna", "berta"}, {"3 cpus", "5 cpus"}),
    ):
        text = numbers(guarded, role, user)
        assert (labels(text, "owner"), labels(text, "needs")) == (owners, asked), user
        assert 'pilot_queue_jobs{queue="default",state="waiting"} 2.0' in text
    assert "berta" not in numbers(guarded, Role.SUBMITTER, "anna", "influx")


def test_texts_of_others_are_cut() -> None:
    begun = time.monotonic()
    assert len(variants_text(MANY)) <= TEXT_CAP
    assert variants_text(MANY[:5]).endswith("4 cpus; or 1 more")
    assert time.monotonic() - begun < 0.1
    assert cut("a" * 65, 64) == "a" * 63 + "…"
    assert cut("a\x1b[31mb", 64) == "a[31mb"


def test_labels_are_short_and_two_long_names_that_begin_alike_are_one_series(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        for end in "xy":
            bed.add(job(end), user="o" * 100 + end)
        bed.settle()
        view = bed.face._views()[0]
        wide = replace(view, shapes=tuple(replace(each, needs="n" * 289_000) for each in view.shapes))
        found = {name: list(rows) for name, _, _, rows in gauges._told(wide, "")}
    assert [each for each in found["owner_jobs"] if each[0][1] == "waiting"] == [(("o" * 63 + "…", "waiting"), 2)]
    assert max(len(text) for rows in found.values() for values, _ in rows for text in values) == gauges.LABEL_LETTERS


def test_owners_beyond_the_first_few_are_summed_up(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        view = bed.face._views()[0]
    many = tuple(OwnerCounts(f"u{each:02}", Counts(waiting=1)) for each in range(25))
    rows = dict(gauges._owners(replace(view, owners=many), "").__next__()[3])
    assert rows["(others)", "waiting"] == 5
    assert len(rows) == 21 * len(gauges.STATES)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (MANY, "20000 variants"),
        ((Needs(cpus=0),), "no core"),
        ((Needs(cpus=10**30),), "than any machine"),
        ((Needs(memory_bytes=1 << 80),), "than any machine"),
        ((Needs(walltime_seconds=-1),), "below zero"),
        ((Needs(gpus=GpuNeeds(1, capability=">=" + "1" * 100)),), "64 letters"),
    ],
)
def test_needs_that_no_queue_could_match_are_refused(tmp_path: Path, wanted: tuple[Needs, ...], why: str) -> None:
    bed = LocalBed(tmp_path)
    try:
        with pytest.raises(Final, match=why) as refused:
            bed.user().add([Submission(JobSpec("a", ("true",), "ml-base", needs=wanted))])
        assert refused.value.fault.code is Code.JOB_INVALID
        bed.user().add([job("b", needs=MANY[:VARIANTS_CAP])])
    finally:
        bed.close()
