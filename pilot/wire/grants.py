"""PanDA's job definition to a grant of ours: the one place where the whole translation can be read.

What cannot be translated becomes a grant with a refusal, which the pilot declines through its journal like any job:
so the server learns the reason, and no job is lost without a word.
"""

from dataclasses import replace

from pilot.model.faults import Code, fault
from pilot.model.files import Input, Output
from pilot.model.job import Grant, JobSpec
from pilot.wire.bounds import bounded, check_inputs
from pilot.wire.definition import Definition, FileIn, FileOut, Identity, identity_of, job_name, read_definition
from pilot.wire.envelope import WireError
from pilot.wire.places import endpoint_of, url_of
from pilot.wire.points import Point
from pilot.wire.reading import Record
from pilot.wire.receipt import Receipt, receipt_of, write_receipt
from pilot.wire.site import Site
from pilot.wire.transforms import NO_POINT, program_of


def grant_of(data: Record, site: Site, point: Point = NO_POINT) -> Grant:
    """The grant of that job; raises WireError only where it does not even say which job it is."""
    known = identity_of(data)
    try:
        definition = read_definition(data, site.image_base, site.room.alike)
        spec = spec_of(definition, site, point)
    except WireError as problem:
        return refused(known, site, str(problem))
    receipt = write_receipt(replace(receipt_of(definition, site.batch, site.output), event=point.event))
    return Grant(known.job_id, known.attempt, spec, site.lease_seconds, definition.user, receipt=receipt)


def refused(known: Identity, site: Site, why: str, code: Code = Code.JOB_INVALID) -> Grant:
    """An attempt that this pilot has been given and does not run, with the reason."""
    receipt = write_receipt(Receipt(batch=site.batch, refused=True))
    spec = JobSpec(job_name("", known.job_id), ("false",))
    because = fault(code, why)
    return Grant(known.job_id, known.attempt, spec, site.lease_seconds, receipt=receipt, refusal=because)


def spec_of(definition: Definition, site: Site, point: Point = NO_POINT) -> JobSpec:
    """What that job wants, in our words; raises WireError where this pilot cannot say it."""
    check_inputs(definition.inputs, site)
    program = program_of(definition, point)
    return JobSpec(
        name=definition.name,
        command=program.command,
        image=program.image or site.image,
        environment=_environment(definition, site),
        needs=(bounded(definition.needs, site),),
        inputs=(*(_input(each, site) for each in definition.inputs), *program.more),
        outputs=tuple(_output(each, site) for each in definition.outputs),
        network=site.network,
        attempts=1,  # whether there is another attempt is PanDA's to say
        log_archive=_output(definition.log, site) if definition.log else None,
    )


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
