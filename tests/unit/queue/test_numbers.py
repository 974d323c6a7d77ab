"""The service's numbers by themselves: history, rates, and text that formats of others must not trip over."""

from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from pilot.model.faults import Code, fault
from pilot.model.job import GpuNeeds, Needs, Verdict
from pilot.model.report import Report
from pilot.queue.service.gauges import influx_text, prometheus_text
from pilot.queue.service.history import COARSE_SECONDS, FINE_SAMPLES, SAMPLE_SECONDS, History, Sample
from pilot.queue.service.meter import FAULTS_KEPT, Meter
from pilot.queue.service.views import amount, needs_text

GIB = 1 << 30


def filled(count: int, step: float = SAMPLE_SECONDS) -> History:
    history = History()
    for number in range(count):
        history.add(Sample(1000.0 + step * number, grants=5 * number))
    return history


def test_the_last_hour_is_kept_finely_and_the_day_coarsely() -> None:
    samples = filled(int(2 * 86400 / SAMPLE_SECONDS)).samples()
    fine, coarse = samples[-FINE_SAMPLES:], samples[:-FINE_SAMPLES]
    assert [later.at - sooner.at for sooner, later in pairwise(fine)] == [10.0] * (FINE_SAMPLES - 1)
    assert {later.at - sooner.at for sooner, later in pairwise(coarse)} == {COARSE_SECONDS}
    assert 22 * 3600 < samples[-1].at - samples[0].at <= 86400
    assert [each.at for each in samples] == sorted(each.at for each in samples)


def test_a_rate_is_of_the_last_minute() -> None:
    assert filled(1).rate() == 0.0
    assert filled(2).rate() == 0.5
    history = filled(100)
    history.add(Sample(1000.0 + 1000.0, grants=495))
    assert history.rate(60.0) == pytest.approx(25 / 60)


def test_samples_far_apart_have_no_rate() -> None:
    history = History()
    history.add(Sample(0.0, grants=0))
    history.add(Sample(5000.0, grants=100))
    assert history.rate() == 0.0


def test_a_clock_that_went_back_begins_anew() -> None:
    history = filled(10)
    history.add(Sample(5.0))
    assert [each.at for each in history.samples()] == [5.0]


@pytest.mark.parametrize("name", ["a,b", "a=b", "a b", "a\nb", 'a"b', "a\\", "DOMAIN\\anna", "ä ö", ",,,", "\r\n"])
def test_no_name_breaks_a_line(name: str) -> None:
    registry = CollectorRegistry()
    Gauge("jobs", "Jobs.", ["owner", "state"], registry=registry).labels(name, "done").set(7)
    (line,) = influx_text(registry, 1.5).decode().splitlines()
    assert line.endswith(",state=done value=7.0 1500000000")
    assert line.startswith("jobs,owner=")
    tags = line.removeprefix("jobs,owner=").removesuffix(",state=done value=7.0 1500000000")
    bare = tags.replace("\\,", "").replace("\\=", "").replace("\\ ", "")
    assert not set(bare) & set(", =\\\n\r")
    (family,) = text_string_to_metric_families(prometheus_text(registry).decode())
    assert family.samples[0].labels["owner"] == name


def report(number: int, code: Code | None) -> Report:
    why = fault(code, f"number {number}") if code else None
    return Report(f"job-{number}", 1, "name", Verdict.FAILED if code else Verdict.SUCCEEDED, "", "", fault=why)


def test_the_last_faults_are_remembered_newest_first_and_refused_reports_are_not() -> None:
    meter = Meter()
    reports = [report(number, Code.PAYLOAD_EXIT) for number in range(FAULTS_KEPT + 5)]
    meter.reported(reports, [True] * len(reports))
    meter.reported([report(900, Code.GPU_LOST), report(901, None)], [False, True])
    assert [each.job_id for each in meter.faults()] == [f"job-{n}" for n in range(FAULTS_KEPT + 4, 4, -1)]
    text = prometheus_text(meter.registry).decode()
    assert f'pilot_queue_faults_total{{code="payload.exit",party="payload"}} {FAULTS_KEPT + 5}.0' in text
    assert 'pilot_queue_faults_total{code="gpu.lost",party="node"} 0.0' in text
    assert 'pilot_queue_reports_total{taken="no",verdict="failed"} 1.0' in text


def test_needs_are_told_in_a_few_words() -> None:
    assert needs_text(Needs()) == "1 cpu"
    big = Needs(8, 32 * GIB, 100 * GIB, 5400, GpuNeeds(2, 20 * GIB))
    assert needs_text(big) == "8 cpus, 32 GiB, 2 GPUs of 20 GiB, 100 GiB disk, 1.5 h"


def test_amounts_are_in_units_for_people() -> None:
    assert (amount("Memory", "524288"), amount("Disk", str(50 << 20))) == ("512 GiB", "50 GiB")
    assert (amount("Cpus", "64"), amount("Memory", "undefined")) == ("64", "undefined")
