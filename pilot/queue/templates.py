"""What jobs have in common, written once; and a job put together again from its template and its own part.

A job's own part is null, the list of its parameters' values, or an object that also says whom it comes after.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilot.core.templates import fill
from pilot.model.job import JobSpec
from pilot.model.plain import PlainError, from_plain, to_plain

Db = sqlite3.Connection

REMEMBERED = 4096  # templates, parsed: a few kilobytes each
READ = "SELECT body, parameters FROM template WHERE template = ?"
COMPACT = (",", ":")


@dataclass(frozen=True, slots=True)
class Template:
    """A description with placeholders, and the names of its parameters; it has neither name nor predecessors."""

    spec: JobSpec
    parameters: tuple[str, ...] = ()


def write_template(db: Db, spec: JobSpec, parameters: Sequence[str] = ()) -> int:
    """The number of the template of that job."""
    plain = to_plain(spec)
    assert isinstance(plain, dict)
    return keep_template(db, json.dumps(common(plain), separators=COMPACT), json.dumps(list(parameters)))


def common(plain: dict[str, object]) -> dict[str, object]:
    """What of a job description is not its own."""
    return {key: value for key, value in plain.items() if key not in ("name", "after")}


def keep_template(db: Db, body: str, parameters: str = "[]") -> int:
    """The number of that template in this file; a new one gets its row."""
    digest = hashlib.sha256(f"{parameters}\n{body}".encode("utf-8", "surrogatepass")).hexdigest()
    found = db.execute("SELECT template FROM template WHERE digest = ?", (digest,)).fetchone()
    if found is not None:
        return int(found[0])
    return int(
        db.execute(
            "INSERT INTO template (digest, body, parameters) VALUES (?, ?, ?)", (digest, body, parameters)
        ).lastrowid
        or 0
    )


def own_part(values: Sequence[str] = (), after: Sequence[str] = ()) -> str | None:
    """A job's own part as its row holds it."""
    if after:
        return json.dumps({"with": list(values), "after": list(after)}, separators=COMPACT)
    return json.dumps(list(values), separators=COMPACT) if values else None


class Templates:
    """Templates, read once: a row of `template` never changes."""

    def __init__(self) -> None:
        self._known: dict[int, Template] = {}

    def spec(self, db: Db, row: sqlite3.Row) -> JobSpec:
        """The whole description of a job; raises ValueError or RecursionError where its rows cannot be read."""
        template = self._template(db, row["template"])
        values, after = _own(row["own"])
        if len(values) != len(template.parameters):
            raise PlainError(f"{len(values)} values for {len(template.parameters)} parameters")
        named = replace(template.spec, name=row["name"], after=after)
        return fill(named, dict(zip(template.parameters, values, strict=True))) if values else named

    def _template(self, db: Db, number: int) -> Template:
        found = self._known.get(number)
        if found is None:
            row = db.execute(READ, (number,)).fetchone()
            data = json.loads(row["body"])
            plain = {**data, "name": ""} if isinstance(data, dict) else data
            parameters = from_plain(tuple[str, ...], json.loads(row["parameters"]))
            found = Template(from_plain(JobSpec, plain), parameters)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[number] = found
        return found


def _own(text: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if text is None:
        return (), ()
    data = json.loads(text)
    if not isinstance(data, dict):
        return from_plain(tuple[str, ...], data), ()
    return from_plain(tuple[str, ...], data.get("with", [])), from_plain(tuple[str, ...], data.get("after", []))
