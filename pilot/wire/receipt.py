"""The receipt of a job of PanDA's: what a later word about it needs and the rest of the pilot need not know.

It travels with the grant through the journal, so that the adapter holds no job state and a restarted pilot reports
what an earlier one was given.
"""

import json
from dataclasses import dataclass

from pilot.model.plain import PlainError, from_plain, to_plain
from pilot.wire.definition import Definition
from pilot.wire.envelope import WireError, read_json


@dataclass(frozen=True, slots=True)
class Receipt:
    """`outputs` holds name and endpoint of each; `batch` must stay the same as long as the attempt lives.

    `event` is the event range of the point that the job evaluates, if it does; `inputs` counts the job's own inputs.
    """

    batch: str = ""
    cores: int = 1
    task: str = ""
    log: str = ""
    log_guid: str = ""
    log_endpoint: str = ""
    outputs: tuple[tuple[str, str], ...] = ()
    refused: bool = False
    event: str = ""
    inputs: int = 0


def receipt_of(definition: Definition, batch: str, output: str) -> Receipt:
    """The receipt of that job; `output` is the endpoint of files that name none."""
    log = definition.log
    return Receipt(
        batch=batch,
        cores=definition.needs.cpus,
        task=definition.task,
        log=log.name if log else "",
        log_guid=definition.log_guid,
        log_endpoint=(log.endpoint or output) if log else "",
        outputs=tuple((each.name, each.endpoint or output) for each in definition.outputs),
        inputs=len(definition.inputs),
    )


def write_receipt(receipt: Receipt) -> str:
    """As text, one line."""
    return json.dumps(to_plain(receipt), separators=(",", ":"))


def read_receipt(said: str) -> Receipt:
    """The receipt in that text; an empty one where it is none of ours: what is known is told all the same."""
    try:
        return from_plain(Receipt, read_json(said.encode("utf-8", "replace")))
    except (PlainError, WireError):
        return Receipt()
