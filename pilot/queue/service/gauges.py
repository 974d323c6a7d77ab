"""How the queue stands, as gauges drawn from the board at each scrape; and all numbers in either of two formats.

Labels stay bounded: owners and shapes beyond the first few are summed up as `(others)`, long ones are cut.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

from pilot.model.queue import QueueState
from pilot.queue.service.labels import cut
from pilot.queue.service.views import BoardView, Counts

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
INFLUX = "text/plain; charset=utf-8"
OWNERS_TOLD = 20
OTHERS = "(others)"
LABEL_LETTERS = 64
STATES = ("waiting", "held", "granted", "done")
VERDICTS = ("succeeded", "failed", "interrupted", "cancelled", "declined")
# A backslash at the end of a tag would swallow what follows, and Influx knows no way to write one there.
_TAG = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ ", "\n": "\\ ", "\r": "\\ ", "\\": "/"})


Told = tuple[str, str, tuple[str, ...], Iterable[tuple[tuple[str, ...], float]]]  # name, text, labels, values


class Look(Protocol):
    """Gives the boards as they stand."""

    def __call__(self) -> Sequence[BoardView]:
        """One view a queue, jobs left out."""


class Gauges:
    """A collector that looks when it is asked; `sees` names the one owner who is named, "" = all."""

    def __init__(self, look: Look, sees: str = "") -> None:
        self._look = look
        self._sees = sees

    def collect(self) -> Iterator[Metric]:
        """Every gauge, the queues side by side in it."""
        families: dict[str, Metric] = {}
        for view in self._look():
            for name, text, labels, rows in _told(view, self._sees):
                family = families.setdefault(name, _family(name, text, labels))
                assert isinstance(family, GaugeMetricFamily)
                for values, value in rows:
                    family.add_metric((view.queue.name, *values), value)
        return iter(families.values())


def prometheus_text(registry: CollectorRegistry) -> bytes:
    """Prometheus' text format."""
    return generate_latest(registry)


def influx_text(registry: CollectorRegistry, at: float) -> bytes:
    """Influx line protocol; one line per sample, the value in the field `value`; times in nanoseconds."""
    stamp = int(at * 1e9)
    lines = (
        f"{sample.name}{''.join(_tags(sample.labels))} value={float(sample.value)!r} {stamp}\n"
        for family in registry.collect()
        for sample in family.samples
        if math.isfinite(sample.value)  # Influx has no other numbers
    )
    return "".join(lines).encode()


def _tags(labels: dict[str, str]) -> Iterator[str]:
    """In order of their names, as Influx likes them; empty ones it does not take."""
    yield from (f",{name}={value.translate(_TAG)}" for name, value in sorted(labels.items()) if value)


def _family(name: str, text: str, labels: Sequence[str]) -> Metric:
    return GaugeMetricFamily(f"pilot_queue_{name}", text, labels=("queue", *labels))


def _told(view: BoardView, sees: str) -> Iterator[Told]:
    yield from _jobs(view)
    yield from _owners(view, sees)
    yield from _waiting(view, sees)
    yield from _pilots(view)
    yield from _service(view)


def _one(name: str, text: str, value: float) -> Told:
    return name, text, (), [((), value)]


def _jobs(view: BoardView) -> Iterator[Told]:
    counts = view.counts
    yield "jobs", "Jobs, by state.", ("state",), [((each,), getattr(counts, each)) for each in STATES]
    ended = [((each,), getattr(counts, each)) for each in VERDICTS]
    yield "jobs_done", "Jobs that are done, by verdict.", ("verdict",), ended


def _owners(view: BoardView, sees: str) -> Iterator[Told]:
    owners = [each for each in view.owners if sees in ("", each.owner)]
    told: dict[str, list[Counts]] = {}
    for number, each in enumerate(owners):  # two long names may begin alike: then they are one
        told.setdefault(cut(each.owner, LABEL_LETTERS) if number < OWNERS_TOLD else OTHERS, []).append(each.counts)
    rows = [((owner, each), sum(getattr(one, each) for one in all_)) for owner, all_ in told.items() for each in STATES]
    yield "owner_jobs", "Jobs of the owners with most to do, by state.", ("owner", "state"), rows


def _waiting(view: BoardView, sees: str) -> Iterator[Told]:
    shown = [each for each in view.shapes if sees in ("", each.owner)]
    rows = [((str(each.shape), cut(each.needs, LABEL_LETTERS)), each.jobs) for each in shown]
    yield "waiting_jobs", "Waiting jobs, by what they ask; the largest groups.", ("shape", "needs"), rows
    unfit = sum(each.jobs for each in view.shapes if each.looked and not each.fits)
    yield _one("unfit_jobs", "Waiting jobs of the largest groups that no live offer fits.", unfit)
    yield _one("oldest_waiting_seconds", "How long the oldest job that could run has waited.", view.oldest_seconds)


def _pilots(view: BoardView) -> Iterator[Told]:
    yield _one("pilots", "Pilots that have offered themselves or are at work lately.", view.pilots_live)
    yield _one("pilots_known", "Pilots seen within a week.", view.pilots_seen)
    live = [each for each in view.pilots if each.live]
    yield _one("offered_cpus", "Cores in the last offers of live pilots.", sum(each.cpus for each in live))
    yield _one("offered_gpus", "Devices in the last offers of live pilots.", sum(len(each.devices) for each in live))


def _service(view: BoardView) -> Iterator[Told]:
    yield _one("overdue_leases", "Attempts whose lease ran out and whose job nobody has taken since.", view.overdue)
    yield _one("grants_per_second", "Jobs given out per second, over the last minute.", view.grants_per_second)
    yield _one("file_bytes", "Size of the queue file, its write-ahead log included.", view.file_bytes)
    states = [((each.value,), float(view.queue.state is each)) for each in QueueState]
    yield "state", "1 for the state that the queue is in.", ("state",), states
