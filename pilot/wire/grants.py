"""PanDA's job definition to a grant of ours: the one place where the whole translation can be read.

What cannot be translated becomes a grant with a refusal, which the pilot declines through its journal like any job:
so the server learns the reason, and no job is lost without a word.
"""

from collections.abc import Sequence
from dataclasses import replace

from pilot.model.faults import Code, fault
from pilot.model.files import Input, Output
from pilot.model.job import Grant, JobSpec
from pilot.wire.bounds import bounded, check_inputs
from pilot.wire.definition import Definition, FileIn, FileOut, Identity, identity_of, job_name, log_of, read_definition
from pilot.wire.envelope import WireError, shown
from pilot.wire.places import NoStorageError, endpoint_of, url_of
from pilot.wire.points import Point
from pilot.wire.reading import Record, text
from pilot.wire.receipt import Receipt, read_receipt, receipt_of, write_receipt
from pilot.wire.script import RESERVED
from pilot.wire.site import Site
from pilot.wire.transforms import NO_POINT, program_of


def grant_of(data: Record, site: Site, point: Point = NO_POINT) -> Grant:
    """The grant of that job; raises WireError only where it does not even say which job it is."""
    known = identity_of(data)
    try:
        definition = read_definition(data, site.image_base, site.room.alike)
        spec = spec_of(definition, site, point)
    except NoStorageError as problem:
        return _with_log(refused(known, site, str(problem), Code.STORAGE_UNKNOWN), data, site)
    except WireError as problem:
        return _with_log(refused(known, site, str(problem)), data, site)
    receipt = write_receipt(replace(receipt_of(definition, site.batch, site.output), event=point.event))
    return Grant(known.job_id, known.attempt, spec, site.lease_seconds, definition.user, receipt=receipt)


def refused(known: Identity, site: Site, why: str, code: Code = Code.JOB_INVALID) -> Grant:
    """An attempt that this pilot has been given and does not run, with the reason."""
    receipt = write_receipt(Receipt(batch=site.batch, refused=True))
    spec = JobSpec(job_name("", known.job_id), ("false",))
    because = fault(code, why)
    return Grant(known.job_id, known.attempt, spec, site.lease_seconds, receipt=receipt, refusal=because)


def _with_log(grant: Grant, data: Record, site: Site) -> Grant:
    """With the place for its logs, as far as it can be told: PanDA's adder complains of every job without."""
    try:
        log, guid = log_of(data), text(data, "logGUID")
        place = _output(log, site) if log else None
    except WireError:
        return grant
    if log is None or place is None:
        return grant
    told = replace(read_receipt(grant.receipt), log=log.name, log_guid=guid, log_endpoint=log.endpoint or site.output)
    return replace(grant, spec=replace(grant.spec, log_archive=place), receipt=write_receipt(told))


def spec_of(definition: Definition, site: Site, point: Point = NO_POINT) -> JobSpec:
    """What that job wants, in our words; raises WireError where this pilot cannot say it."""
    check_inputs(definition.inputs, site)
    program = program_of(definition, point)
    _check_names(definition, program.more)
    return JobSpec(
        name=definition.name,
        command=program.command,
        image=program.image or site.image,
        environment=_environment(definition, site),
        needs=(bounded(definition.needs, site),),
        inputs=(*(_input(each, site) for each in definition.inputs), *program.more),
        outputs=tuple(_output(each, site) for each in definition.outputs),
        network=site.network,
        contract="1.0" if point.event else "",  # a result.json of PanDA's payloads is their own; of a point, ours
        attempts=1,  # whether there is another attempt is PanDA's to say
        log_archive=_output(definition.log, site) if definition.log else None,
    )


def _check_names(definition: Definition, more: Sequence[Input]) -> None:
    """Raises WireError where two things would have one name in the working directory."""
    inputs = {each.name for each in definition.inputs} | {each.name for each in more}
    outputs = {each.name for each in definition.outputs}
    taken = next((each for each in sorted(inputs | outputs) if each in RESERVED), None)
    if taken is not None:
        raise WireError(f"{shown(taken)}: a file of that name is the pilot's own in the working directory")
    both = next(iter(sorted(inputs & outputs)), None)
    if both is not None:
        raise WireError(f"{shown(both)}: it is an input and an output; inputs are not written to here")


def _environment(definition: Definition, site: Site) -> tuple[tuple[str, str], ...]:
    """What PanDA's payloads find in their environment, less everything that would be a credential."""
    values = {
        **dict(site.environ),
        "PandaID": definition.job_id,
        "PANDAID": definition.job_id,
        "PanDA_TaskID": definition.task,
        "PanDA_AttemptNr": str(definition.attempt),
        "PANDA_RESOURCE": site.resource,
        "ATHENA_PROC_NUMBER": str(definition.needs.cpus),
    }
    return tuple((name, value) for name, value in values.items() if value)


def _input(file: FileIn, site: Site) -> Input:
    place = endpoint_of(site.endpoints, file.endpoint, file.name)
    kind, _, digits = file.checksum.partition(":")
    adler32 = digits.lower().rjust(8, "0") if kind == "ad" else ""
    return Input(url_of(place.read, file.scope, file.name), file.name, adler32=adler32, size=file.size)


def _output(file: FileOut, site: Site) -> Output:
    place = endpoint_of(site.endpoints, file.endpoint or site.output, file.name)
    return Output(file.name, optional=file.optional, url=url_of(place.write, file.scope, file.name))
