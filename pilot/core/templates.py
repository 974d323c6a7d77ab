"""Sweeps: one job description with placeholders, and what stands in their place job by job.

`{lr}` stands for the parameter `lr` in the name, the command, the environment's values, the outputs and the
validation command; braces around anything else are left as they are. A job whose name holds no placeholder gets its
number appended.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pilot.model.files import Output
from pilot.model.job import JobSpec

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
PLAIN_VALUE = re.compile(r"(?!\.)[A-Za-z0-9._+=-]{1,64}")  # what may stand in a name, and so in a path
MAX_VALUE = 4096
MAX_JOB_NAME = 128

Values = Mapping[str, str]


def fill(spec: JobSpec, values: Values) -> JobSpec:
    """The job with the values in their places; its name is set apart."""
    return replace(
        spec,
        command=tuple([put(each, values) for each in spec.command]),
        environment=tuple([(name, put(value, values)) for name, value in spec.environment]),
        outputs=tuple([_output(each, values) for each in spec.outputs]),
        validate=tuple([put(each, values) for each in spec.validate]),
    )


def put(text: str, values: Values) -> str:
    """The text with each `{name}` of a parameter replaced; what was put in is not looked at again."""
    if "{" not in text:
        return text
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _output(output: Output, values: Values) -> Output:
    if "{" not in output.name + output.to + output.url:
        return output
    return replace(output, name=put(output.name, values), to=put(output.to, values), url=put(output.url, values))


def named_at(spec: JobSpec, parameters: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Which of the parameters the job uses at all, and which of them in a name or place."""
    placed = [spec.name, *(text for each in spec.outputs for text in (each.name, each.to, each.url))]
    free = [*spec.command, *(value for _, value in spec.environment), *spec.validate]
    return _used([*placed, *free], parameters), _used(placed, parameters)


def _used(texts: Sequence[str], parameters: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name in parameters if any("{" + name + "}" in text for text in texts))


def wrong_parameters(spec: JobSpec, parameters: Sequence[str]) -> str:
    """Why these cannot be the parameters of that job; empty where they can."""
    unnamed = next((each for each in parameters if not NAME.fullmatch(each)), None)
    if not parameters:
        return "a sweep without parameters; give each job at least one value"
    if unnamed is not None:
        return f"parameter {unnamed[:40]!r}: letters, digits and _ only, a letter first, at most 64"
    unused = sorted(set(parameters) - named_at(spec, parameters)[0])
    if unused:
        empty = _unfilled(spec, parameters)
        also = f"; and none is named {empty[0]!r}, which the job uses" if empty else ""
        return f"parameter {unused[0]!r}: the job does not use it; write {{{unused[0]}}} where it belongs{also}"
    return ""


def _unfilled(spec: JobSpec, parameters: Sequence[str]) -> list[str]:
    """What looks like a placeholder of the job and is no parameter: it may be meant so, or not."""
    placed = [spec.name, *(text for each in spec.outputs for text in (each.name, each.to, each.url))]
    texts = [*placed, *spec.command, *(value for _, value in spec.environment), *spec.validate]
    return sorted({name for text in texts for name in PLACEHOLDER.findall(text)} - set(parameters))


def wrong_value(value: object, placed: bool) -> str:
    """Why that cannot be the value of a parameter (`placed`: in a name or place); empty where it can."""
    if not isinstance(value, str):
        return f"{value!r:.40} is no text"
    if placed and not PLAIN_VALUE.fullmatch(value):
        return f"{value[:40]!r} stands in a name: letters, digits and . _ + = - only, no . first, at most 64"
    if "\0" in value or len(value) > MAX_VALUE or not value.isprintable():
        return f"{value[:40]!r}: printable text only, at most {MAX_VALUE}"
    return ""
