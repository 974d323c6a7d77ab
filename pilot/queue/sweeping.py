"""Sweeps come in: one template, and a row of values for each job."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, count
from json.encoder import encode_basestring_ascii as quoted

from pilot.core.templates import MAX_JOB_NAME, Values, named_at, put, wrong_parameters, wrong_value
from pilot.model.faults import Code
from pilot.model.job import JobSpec
from pilot.model.queue import Submission, Sweep
from pilot.ports import Final
from pilot.queue.adding import fresh_ids, known, link
from pilot.queue.order import batch_of, predecessors
from pilot.queue.rows import Desk, Own
from pilot.queue.templates import own_part

Db = sqlite3.Connection


@dataclass(frozen=True, slots=True)
class Form:
    """A sweep's description and parameters, in the order in which they are kept; `placed` stand in a name."""

    spec: JobSpec
    parameters: tuple[str, ...]
    names: frozenset[str]
    placed: frozenset[str]
    numbered: bool

    def row(self, number: int, values: Values) -> tuple[str, list[str]]:
        """The name of that job, and its values in order; refuses those that cannot be."""
        if values.keys() != self.names:
            raise refused(self.spec, self._difference(values), number)
        for each in self.parameters:
            wrong = wrong_value(values[each], each in self.placed)
            if wrong:
                raise refused(self.spec, f"parameter {each}: {wrong}", number)
        name = f"{self.spec.name}-{number}" if self.numbered else put(self.spec.name, values)
        if len(name) > MAX_JOB_NAME:
            raise refused(self.spec, f"the name {name[:40]}... is longer than {MAX_JOB_NAME}", number)
        return name, [values[each] for each in self.parameters]

    def _difference(self, values: Values) -> str:
        missing, strange = sorted(self.names - values.keys()), sorted(map(str, values.keys() - self.names))
        lacks = [f"parameter {missing[0]} is missing"] if missing else []
        has = [f"the first job has no parameter {strange[0]!r:.60}"] if strange else []
        return ", and ".join([*lacks, *has])


def refused(spec: JobSpec, why: str, number: int = 0) -> Final:
    """The sweep is not taken; `number` counts its jobs from 1."""
    return Final(Code.JOB_INVALID, f"{spec.name}: " + (f"job {number} of the sweep: " if number else "") + why)


def form_of(template: Submission, first: Values) -> Form:
    """The form of a sweep whose first row is that."""
    spec, parameters = template.spec, tuple(first)
    if template.job_id:
        raise refused(spec, "the jobs of a sweep get ids of their own; leave out `id`")
    wrong = wrong_parameters(spec, parameters)
    if wrong:
        raise refused(spec, wrong)
    numbered = put(spec.name, dict.fromkeys(parameters, "")) == spec.name
    return Form(spec, parameters, frozenset(parameters), named_at(spec, parameters)[1], numbered)


def formed(template: Submission, rows: Iterable[Values]) -> tuple[Form, Iterator[tuple[str, list[str]]]]:
    """The form of a sweep; name and values of every job, which refuses the first that cannot be."""
    rest = iter(rows)
    first = next(rest, None)
    if first is None:
        raise refused(template.spec, "a sweep without jobs; give each its values")
    form = form_of(template, first)
    return form, map(form.row, count(1), chain((first,), rest))


@dataclass(slots=True)
class Written:
    """The ids that were given, all of them where they are `wanted` again."""

    wanted: bool
    ids: list[str] = field(default_factory=list)
    first: str = ""
    last: str = ""

    def rows(self, jobs: Iterable[tuple[str, list[str]]], now: float, after: tuple[str, ...]) -> Iterator[Own]:
        """The rows of the jobs."""
        job_id = ""
        for job_id, (name, values) in zip(fresh_ids(now), jobs, strict=False):
            self.first = self.first or job_id
            if self.wanted:
                self.ids.append(job_id)
            yield job_id, name, own_part(values, after) if after else f"[{','.join(map(quoted, values))}]"
        self.last = job_id


def add_rows(desk: Desk, template: Submission, rows: Iterable[Values]) -> Sweep:
    """Puts a job for each row into the queue, in order."""
    form, jobs = formed(template, rows)
    after = predecessors(batch_of([replace(template, job_id="-")]), lambda job_id: known(desk.db, job_id))["-"]
    desk.keep_code(template)
    written = Written(bool(after))
    batch = desk.batch(replace(template.spec, name="", after=()), form.parameters)
    number = desk.put(written.rows(jobs, desk.now, after), batch)
    desk.close()
    for job_id in written.ids:
        link(desk, job_id, after)
    return Sweep(template.spec.name, number, written.first, written.last)
