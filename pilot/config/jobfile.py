"""Job files: read whole, checked whole, every problem with its line and column."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pilot.config import names
from pilot.config.codepack import CodeProblems, pack
from pilot.config.jobmodel import CheckpointModel, GpuModel, InputModel, JobModel, NeedsModel, OutputModel
from pilot.config.problems import ConfigProblems, JobProblems, Problem, did_you_mean, shown
from pilot.config.strict_yaml import BYTES_CAP, Document, load_documents
from pilot.config.strict_yaml import Path as Place
from pilot.model.files import CodePack
from pilot.model.job import JobSpec

Refusal = Callable[[str], str]  # why a requirements expression is refused, "" if it is not
Where = tuple[Place, str]


@dataclass(frozen=True, slots=True)
class Rules:
    """What else a job is held against: a reader of expressions; whether it is the description of a sweep."""

    refusal: Refusal | None = None
    sweep: bool = False


@dataclass(frozen=True, slots=True)
class JobDocument:
    """One job of a file: its description, the id it asks for, and the archive of its code."""

    spec: JobSpec
    job_id: str | None = None
    code: bytes | None = None


def load_jobs(path: Path, refusal: Refusal | None = None, sweep: bool = False) -> list[JobDocument]:
    """Every job of the file (one, a list, or several documents); raises JobProblems with all that is wrong.

    Only the job of a sweep may have placeholders in its name and in those of its outputs.
    """
    try:
        return _load_all(path, Rules(refusal, sweep))
    except ConfigProblems as found:
        raise JobProblems(found.problems) from None


def _load_all(path: Path, rules: Rules) -> list[JobDocument]:
    source = str(path)
    documents = load_documents(_read(path), source)
    jobs: list[JobDocument] = []
    problems: list[Problem] = []
    for document, place in _jobs(documents):
        found = _load(document, place, path.absolute().parent, rules)
        if isinstance(found, JobDocument):
            jobs.append(found)
        else:
            problems += found
    if not jobs and not problems:
        problems.append(Problem(source, 0, 0, "holds no job"))
    if problems:
        raise ConfigProblems(sorted(problems, key=lambda each: (each.line, each.column)))
    return jobs


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(BYTES_CAP + 1)
    except OSError as error:
        raise ConfigProblems([Problem(str(path), 0, 0, f"cannot be read: {error.strerror}")]) from None


def _jobs(documents: list[Document]) -> Iterator[tuple[Document, Place]]:
    for document in documents:
        if isinstance(document.data, list):
            yield from ((document, (number,)) for number in range(len(document.data)))
        elif document.data is not None:
            yield document, ()


def _load(document: Document, place: Place, base: Path, rules: Rules) -> JobDocument | list[Problem]:
    try:
        model = JobModel.model_validate(_with_checksums_as_text(document, place))
    except ValidationError as error:
        return [_problem(document, place, each) for each in error.errors(include_url=False)]
    wrong = list(_crossed(model, rules))
    data, record = None, None
    try:
        data, record = pack(base, model.code) if model.code else (None, None)
    except CodeProblems as found:
        wrong += [(("code", index), message) for index, message in found.problems]
    wrong += _collisions(model, record)
    if wrong:
        return [document.problem((*place, *where), _named(where, message)) for where, message in wrong]
    return JobDocument(model.spec(base, record), model.id, data)


def _with_checksums_as_text(document: Document, place: Place) -> object:
    """The data of one job; a checksum of digits alone, or of digits and one e, was read as a number."""
    data = _at(document.data, place)
    for where, text in document.texts.items():
        if where[-1:] in {("adler32",), ("sha256",)} and where[: len(place)] == place:
            parent = _at(document.data, where[:-1])
            if isinstance(parent, dict):
                parent[where[-1]] = text
    return data


def _at(data: object, place: Place) -> object:
    value = data
    for step in place:
        value = value[step] if isinstance(value, dict | list) else None  # type: ignore[index]  # a path of this very data
    return value


# --- what the model alone cannot see ---------------------------------------------------------------------------------


def _crossed(model: JobModel, rules: Rules) -> Iterator[Where]:
    if model.requirements and rules.refusal is not None and (reason := rules.refusal(model.requirements)):
        yield ("requirements",), reason
    yield from () if rules.sweep else _placeholders(model)
    if model.id in model.after or model.name in model.after:
        yield ("after",), "a job cannot wait for itself"
    seen: set[str] = set()
    for number, each in enumerate(model.outputs):
        if each.name in seen:
            yield ("outputs", number), f"{each.name!r} is named twice"
        seen.add(each.name)


def _placeholders(model: JobModel) -> Iterator[Where]:
    """Nothing would fill them."""
    places: list[tuple[Place, str]] = [(("name",), model.name)]
    places += [(("outputs", number), each.name) for number, each in enumerate(model.outputs)]
    for where, text in places:
        if found := names.placeholder_in(text):
            yield where, f"{found} is a placeholder, which only `pilot queue add --sweep` fills"


def _collisions(model: JobModel, record: CodePack | None) -> Iterator[Where]:
    """Inputs, code and outputs share one directory: each name once, and none inside another."""
    taken = dict.fromkeys(record.names if record else (), "the job's code")
    around = {folder: what for name, what in taken.items() for folder in _above(name)}
    for number, each in enumerate(model.inputs):
        name = each.payload_name
        if other := _inside(name, taken) or around.get(name, ""):
            yield ("inputs", number), f"the name {name!r} is taken by {other}"
        taken[name] = f"inputs[{number}]"
        around |= dict.fromkeys(_above(name), taken[name])
    for number, output in enumerate(model.outputs):
        if output.name in taken:
            yield ("outputs", number), f"the name {output.name!r} is taken by {taken[output.name]}"


def _inside(name: str, taken: dict[str, str]) -> str:
    steps = name.split("/")
    return next((taken[each] for end in range(len(steps), 0, -1) if (each := "/".join(steps[:end])) in taken), "")


def _above(name: str) -> list[str]:
    """The folders that a file of that name lies in."""
    steps = name.split("/")
    return ["/".join(steps[:end]) for end in range(1, len(steps))]


# --- the model's errors in the house's words -------------------------------------------------------------------------


def _problem(document: Document, place: Place, error: ErrorDetails) -> Problem:
    """One error of pydantic, at its place in the file. A missing key stands where its mapping does."""
    where = _known_part(_at(document.data, place), error["loc"])
    full = (*place, *where)
    if error["type"] in {"extra_forbidden", "missing"}:
        key = str(error["loc"][-1])
        holder = full if error["type"] == "missing" else full[:-1]
        line, column = document.keys.get((*holder, key)) or document.mark(holder)
        return Problem(
            document.source,
            line,
            column,
            _named(where if error["type"] == "missing" else where[:-1], _key_message(error, key)),
        )
    return document.problem(full, _named(where, _message(error)))


def _known_part(data: object, location: tuple[int | str, ...]) -> Place:
    """The steps of pydantic's location that are steps in the data; it also names the variants of a union."""
    where: list[int | str] = []
    for step in location:
        here = _at(data, tuple(where))
        if (isinstance(here, dict) and step in here) or (isinstance(here, list) and isinstance(step, int)):
            where.append(step)
    return tuple(where)


def _named(where: Place, message: str) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")
    return f"{text}: {message}" if text else message


def _key_message(error: ErrorDetails, key: str) -> str:
    if error["type"] == "missing":
        return f"the key {key!r} is missing"
    return f"unknown key {shown(key)[5:]}{did_you_mean(key, _known_keys(error['loc']))}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that stands at that location."""
    model: type[BaseModel] = JobModel
    for step in location[:-1]:
        model = _MODELS.get(str(step), model)
    return [each.alias or name for name, each in model.model_fields.items()]


_MODELS: dict[str, type[BaseModel]] = {
    "needs": NeedsModel,
    "gpus": GpuModel,
    "inputs": InputModel,
    "outputs": OutputModel,
    "checkpoint": CheckpointModel,
}

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _message(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "literal_error":
        return f"{shown(error['input'])} is not one of {context['expected'].replace(chr(39), '')}"
    if error["type"] in _EXPECTED:
        return f"expected {_EXPECTED[error['type']]}, found {shown(error['input'])}{_quote_hint(error)}"
    if error["type"] == "too_short":
        return "must not be empty"
    return f"{error['msg'].replace('Input should be', 'must be')}, found {shown(error['input'])}"


def _quote_hint(error: ErrorDetails) -> str:
    is_plain = isinstance(error["input"], int | float)
    return ' (text of digits, true or false wants quotes: "3")' if error["type"] == "string_type" and is_plain else ""
