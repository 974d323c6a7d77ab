"""The job file's keys, types and defaults. Read only by commands that take job files: pydantic costs 60 ms and 8 MB."""

import os.path
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from pilot.config import names
from pilot.config.units import parse_duration, parse_size
from pilot.model.files import CodePack, Input, Mode, Output
from pilot.model.job import VARIANTS_CAP, GpuNeeds, JobSpec, Needs

PETABYTE = 1 << 50
YEAR = 366 * 86_400

SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?([KMGTP]i?B|kB|B)?$"},
    ]
}
DURATION_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$|^[0-9]+$", "minLength": 1},
    ]
}


def _most(limit: int, what: str) -> AfterValidator:
    def check(value: int) -> int:
        if value > limit:
            raise ValueError(f"more than {what}")
        return value

    return AfterValidator(check)


Size = Annotated[int, BeforeValidator(parse_size), _most(PETABYTE, "1 PiB"), WithJsonSchema(SIZE_SCHEMA)]
Duration = Annotated[int, BeforeValidator(parse_duration), _most(YEAR, "366 days"), WithJsonSchema(DURATION_SCHEMA)]
Name = Annotated[str, AfterValidator(names.job_name), Field(max_length=128)]
Title = Annotated[str, AfterValidator(names.job_title), Field(max_length=128)]
Variable = Annotated[str, AfterValidator(names.variable)]
Argument = Annotated[str, AfterValidator(names.argument)]
Command = Annotated[list[Argument], Field(min_length=1, max_length=4096)]
Version = Annotated[str, AfterValidator(names.version_condition)]
Url = Annotated[str, AfterValidator(names.url)]
Adler32 = Annotated[str, AfterValidator(lambda value: names.hexadecimal(value, 8))]
Sha256 = Annotated[str, AfterValidator(lambda value: names.hexadecimal(value, 64))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title=None)


class GpuModel(_Strict):
    """Accelerators wanted."""

    count: int = Field(default=1, ge=0, le=64, description="how many")
    memory: Size = Field(default=0, description="device memory, each")
    capability: Version | None = Field(default=None, description="compute capability, a condition", examples=[">=8.0"])
    cuda: Version | None = Field(
        default=None, description="CUDA version of the driver, a condition", examples=[">=12.0"]
    )

    def value(self) -> GpuNeeds:
        """As the house's own value."""
        return GpuNeeds(self.count, self.memory, self.capability or "", self.cuda or "")


class NeedsModel(_Strict):
    """What the payload needs; 0 = no limit asked."""

    cpus: int = Field(default=1, ge=1, le=4096, description="cores")
    memory: Size = Field(default=0, description="memory", examples=["2GiB"])
    scratch: Size = Field(default=0, description="room in the sandbox", examples=["5GiB"])
    walltime: Duration = Field(default=0, description="the longest that the command may run", examples=["30m"])
    gpus: GpuModel | None = Field(default=None, description="accelerators")

    def value(self) -> Needs:
        """As the house's own value."""
        gpus = self.gpus.value() if self.gpus else GpuNeeds()
        return Needs(self.cpus, self.memory, self.scratch, self.walltime, gpus)


class InputModel(_Strict):
    """One input; a checksum that is given is verified."""

    url: Url = Field(description="where it is", examples=["file:///data/ntuple.root"])
    name: Annotated[str, AfterValidator(names.input_name)] | None = Field(
        default=None, alias="as", description="the name that the payload sees; without it the last part of the URL"
    )
    adler32: Adler32 | None = Field(default=None, description="its Adler-32, 8 hexadecimal digits")
    sha256: Sha256 | None = Field(default=None, description="its SHA-256, 64 hexadecimal digits")
    size: Size | None = Field(default=None, description="its size")
    mode: Literal["stage", "stream", "cache", "auto"] = Field(default="stage", description="how it reaches the payload")

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        try:
            names.input_name(self.payload_name)
        except ValueError as error:
            raise ValueError(f"the URL ends in no usable name ({error}): add one with `as`") from None
        return self

    @property
    def payload_name(self) -> str:
        """The name that the payload sees."""
        return self.name or self.url.rpartition("/")[2].partition("?")[0]

    def value(self) -> Input:
        """As the house's own value."""
        return Input(self.url, self.payload_name, self.adler32 or "", self.sha256 or "", self.size, Mode(self.mode))


class OutputModel(_Strict):
    """One output, or a pattern of several."""

    name: Annotated[str, AfterValidator(names.output_pattern)] = Field(
        description="a name or pattern, relative to the working directory", examples=["model.onnx", "metrics/*"]
    )
    to: Url | None = Field(
        default=None, description="where it goes: <to>/<job_id>/<attempt>/NAME; without it, where the queue says"
    )
    optional: bool = Field(default=False, description="whether the job may succeed without it")

    def value(self) -> Output:
        """As the house's own value."""
        return Output(self.name, self.to or "", self.optional)


class CheckpointModel(_Strict):
    """When the payload is asked to save its state."""

    interval: Annotated[Duration, Field(ge=1)] = Field(description="how often", examples=["5m"])


def _needs_form(value: object) -> str:
    return "(list)" if isinstance(value, list) else "(block)"


NeedsField = Annotated[
    Annotated[NeedsModel, Tag("(block)")]
    | Annotated[list[NeedsModel], Field(min_length=1, max_length=VARIANTS_CAP), Tag("(list)")],
    Discriminator(_needs_form),
]


class JobModel(_Strict):
    """One job, as a person writes it."""

    name: Title = Field(description="what people call it", examples=["dilepton-classifier"])
    id: Name | None = Field(default=None, description="its identity in the queue; without it the queue gives one")
    image: Annotated[str, AfterValidator(names.image)] = Field(
        default="",
        max_length=4096,
        description="a name or path of `pilot image ls`, a /cvmfs directory, docker://, oras://; `@sha256:...` pins",
    )
    code: list[str] = Field(
        default=[], max_length=1000, description="files and directories beside this file that travel with the job"
    )
    command: Command = Field(description="the program and its arguments", examples=[["python3", "train.py"]])
    environment: dict[Variable, Argument] = Field(default={}, description="variables of the payload")
    needs: NeedsField = Field(
        default=NeedsModel(), description="what it needs, or a list of variants: the first that fits"
    )
    requirements: str = Field(
        default="", max_length=4096, description="a ClassAd expression on the node, matched both ways"
    )
    inputs: list[InputModel] = Field(
        default=[], max_length=5000, description="files that must be there before it starts"
    )
    outputs: list[OutputModel] = Field(default=[], max_length=1000, description="files that it makes")
    validation: Command | None = Field(
        default=None, alias="validate", description="a check in the same image, after success and before stage-out"
    )
    checkpoint: CheckpointModel | None = Field(default=None, description="when to save its state")
    network: Literal["none", "outbound", "loopback"] = Field(
        default="none", description="what network the payload sees"
    )
    kind: Literal["batch", "service", "toys"] = Field(default="batch", description="what kind of payload it is")
    attempts: int = Field(
        default=3, ge=1, le=1000, description="failures of job, payload or input before it is given up"
    )
    max_interruptions: int = Field(default=100, ge=0, le=100_000, description="all other ends before it is given up")
    priority: int = Field(
        default=0,
        ge=-1_000_000,
        le=1_000_000,
        description="higher goes first among an owner's jobs; a point is worth a day of arrival",
    )
    after: list[Name] = Field(
        default=[], max_length=1000, description="jobs that must succeed first: ids, or names of the same `add`"
    )

    def spec(self, base: Path, code: CodePack | None) -> JobSpec:
        """As the house's own value; paths are relative to `base`."""
        reference, pin = names.split_image(self.image)
        if names.is_image_path(reference) and "://" not in reference:
            reference = os.path.normpath(base / reference)
        return JobSpec(
            name=self.name,
            command=tuple(self.command),
            image=reference,
            image_sha256=pin,
            code=code,
            environment=tuple(sorted(self.environment.items())),
            needs=tuple(each.value() for each in self._variants()),
            requirements=self.requirements,
            inputs=tuple(each.value() for each in self.inputs),
            outputs=tuple(each.value() for each in self.outputs),
            validate=tuple(self.validation or ()),
            checkpoint_interval=self.checkpoint.interval if self.checkpoint else 0,
            network=self.network,
            kind=self.kind,
            attempts=self.attempts,
            max_interruptions=self.max_interruptions,
            priority=self.priority,
            after=tuple(self.after),
        )

    def _variants(self) -> list[NeedsModel]:
        return self.needs if isinstance(self.needs, list) else [self.needs]
