"""Whose fault it is, what it is, and what helps: the one registry of faults.

The enum, `pilot explain CODE`, the documentation page and PanDA's numbers are all drawn from here. Codes are
append-only: a code that has been released keeps its meaning. PanDA's numbers and texts are those of the
incumbent pilot's error table, which its server and monitor know.
"""

from dataclasses import dataclass
from enum import StrEnum


class Party(StrEnum):
    """Whose fault it is."""

    JOB = "job"
    PAYLOAD = "payload"
    INPUT = "input"
    NODE = "node"
    SITE = "site"
    SERVICE = "service"
    PILOT = "pilot"


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered fault: whose, what, what helps, and PanDA's number for it."""

    party: Party
    message: str
    remedy: str
    panda: int


class Code(StrEnum):
    """Every fault there is; the text is what reports and users see."""

    JOB_INVALID = "job.invalid"
    JOB_CANCELLED = "job.cancelled"
    JOB_PREDECESSOR = "job.predecessor"
    IMAGE_DIGEST = "image.digest"
    IMAGE_UNFIT = "image.unfit"
    COMMAND_MISSING = "command.missing"
    OUTPUT_NAME = "output.name"
    PAYLOAD_EXIT = "payload.exit"
    PAYLOAD_SIGNAL = "payload.signal"
    PAYLOAD_MEMORY = "payload.memory"
    PAYLOAD_GPU_MEMORY = "payload.gpu-memory"
    PAYLOAD_WALLTIME = "payload.walltime"
    PAYLOAD_DISK = "payload.disk"
    PAYLOAD_STALLED = "payload.stalled"
    PAYLOAD_DIVERGED = "payload.diverged"
    PAYLOAD_INVALID = "payload.invalid"
    PAYLOAD_XID = "payload.xid"
    PAYLOAD_RESULT = "payload.result"
    OUTPUT_MISSING = "output.missing"
    OUTPUT_ESCAPE = "output.escape"
    STAGE_IN_MISSING = "stage-in.missing"
    STAGE_IN_CHECKSUM = "stage-in.checksum"
    STAGE_IN_TRUNCATED = "stage-in.truncated"
    GPU_LOST = "gpu.lost"
    GPU_XID = "gpu.xid"
    SCRATCH_FULL = "scratch.full"
    RUNTIME_MISSING = "runtime.missing"
    RUNTIME_FAILED = "runtime.failed"
    IMAGE_MISSING = "image.missing"
    IMAGE_CORRUPT = "image.corrupt"
    STOP_FAILED = "stop.failed"
    SLOT_UNFIT = "slot.unfit"
    STORAGE_UNREACHABLE = "storage.unreachable"
    STORAGE_DENIED = "storage.denied"
    STORAGE_EXISTS = "storage.exists"
    STORAGE_UNKNOWN = "storage.unknown"
    BATCH_PREEMPTED = "batch.preempted"
    BATCH_WALLTIME = "batch.walltime"
    SERVER_UNREACHABLE = "server.unreachable"
    SERVER_REFUSED = "server.refused"
    CREDENTIAL_EXPIRED = "credential.expired"
    CREDENTIAL_REFUSED = "credential.refused"
    PILOT_BUG = "pilot.bug"
    PILOT_RESTARTED = "pilot.restarted"
    PILOT_DEADLINE = "pilot.deadline"


_J, _P, _I, _N, _S, _V, _A = (
    Party.JOB,
    Party.PAYLOAD,
    Party.INPUT,
    Party.NODE,
    Party.SITE,
    Party.SERVICE,
    Party.PILOT,
)

REGISTRY: dict[Code, Entry] = {
    Code.JOB_INVALID: Entry(_J, "the job description cannot be run as written", "correct the job", 1311),
    Code.JOB_CANCELLED: Entry(
        _J, "the job was cancelled by its owner or an operator", "add it again if it is wanted", 1144
    ),
    Code.JOB_PREDECESSOR: Entry(_J, "a job that this one waits for did not succeed", "rerun the predecessor", 1236),
    Code.IMAGE_DIGEST: Entry(
        _J, "the image is not the one that the job pins", "correct the digest, or rebuild the image", 1360
    ),
    Code.IMAGE_UNFIT: Entry(_J, "the image cannot run on this node", "choose an image that fits the node", 1310),
    Code.COMMAND_MISSING: Entry(
        _J, "the command is not in the image", "correct the command, or choose another image", 1305
    ),
    Code.OUTPUT_NAME: Entry(
        _J, "an output name is absolute or leads out of the working directory", "correct the name", 1371
    ),
    Code.PAYLOAD_EXIT: Entry(_P, "the payload ended with a non-zero exit code", "read the payload's stderr", 1305),
    Code.PAYLOAD_SIGNAL: Entry(
        _P, "the payload was ended by a signal of its own making", "read the payload's stderr", 1200
    ),
    Code.PAYLOAD_MEMORY: Entry(_P, "the payload used more memory than it was given", "ask for more memory", 1212),
    Code.PAYLOAD_GPU_MEMORY: Entry(
        _P, "the payload used more device memory than there is", "ask for a device with more memory", 1212
    ),
    Code.PAYLOAD_WALLTIME: Entry(
        _P, "the payload ran longer than its walltime", "ask for more walltime, or write checkpoints", 1213
    ),
    Code.PAYLOAD_DISK: Entry(_P, "the payload wrote more than its scratch space", "ask for more scratch", 1104),
    Code.PAYLOAD_STALLED: Entry(_P, "the payload made no progress", "look for a deadlock", 1150),
    Code.PAYLOAD_DIVERGED: Entry(_P, "the training diverged", "change the hyper-parameters", 1305),
    Code.PAYLOAD_INVALID: Entry(
        _P, "the payload's outputs did not pass the job's validate step", "read the validate step's output", 1357
    ),
    Code.PAYLOAD_XID: Entry(_P, "the payload caused a device error", "read the payload's stderr", 1305),
    Code.PAYLOAD_RESULT: Entry(_P, "the payload's result.json breaks the contract", "see docs/contract.md", 1305),
    Code.OUTPUT_MISSING: Entry(
        _P, "the payload did not write an output that the job names", "write it, or mark it optional", 1165
    ),
    Code.OUTPUT_ESCAPE: Entry(
        _P, "an output is a link that leads out of the working directory", "write a regular file", 1371
    ),
    Code.STAGE_IN_MISSING: Entry(_I, "an input does not exist", "correct the URL, or restore the file", 1331),
    Code.STAGE_IN_CHECKSUM: Entry(
        _I, "an input's checksum is not the expected one", "use another replica, or correct the checksum", 1171
    ),
    Code.STAGE_IN_TRUNCATED: Entry(_I, "an input arrived shorter than it should be", "use another replica", 1099),
    Code.GPU_LOST: Entry(_N, "an accelerator is gone", "run elsewhere; drain the device", 1344),
    Code.GPU_XID: Entry(_N, "an accelerator reported an error", "run elsewhere; drain the device", 1344),
    Code.SCRATCH_FULL: Entry(_N, "the node's scratch space is full", "run elsewhere; clean the node", 1098),
    Code.RUNTIME_MISSING: Entry(
        _N, "no working container runtime on this node", "run elsewhere; `pilot doctor` says what to install", 1372
    ),
    Code.RUNTIME_FAILED: Entry(
        _N, "the container could not be started", "run elsewhere; read the payload's stderr", 1306
    ),
    Code.IMAGE_MISSING: Entry(
        _N, "the image is not on this node", "`pilot image ls` shows what is; build or pull it", 1360
    ),
    Code.IMAGE_CORRUPT: Entry(
        _N, "the image's bytes are not what its digest says", "`pilot image pull` it again", 1309
    ),
    Code.STOP_FAILED: Entry(_N, "a process could not be ended", "drain the node", 1319),
    Code.SLOT_UNFIT: Entry(
        _N, "this slot cannot give what the job needs", "run in a larger slot, or ask for less", 1344
    ),
    Code.STORAGE_UNREACHABLE: Entry(_S, "the storage did not answer", "try again later, or elsewhere", 1137),
    Code.STORAGE_DENIED: Entry(_S, "the storage refused", "check the permissions of the destination", 1383),
    Code.STORAGE_EXISTS: Entry(
        _S, "the destination holds another file of that name", "choose another destination", 1221
    ),
    Code.STORAGE_UNKNOWN: Entry(
        _S, "this pilot has no way to a storage that the job names", "name the endpoint in `panda_storages`", 1313
    ),
    Code.BATCH_PREEMPTED: Entry(_S, "the site took the slot back", "it is tried again, here or elsewhere", 1379),
    Code.BATCH_WALLTIME: Entry(_S, "the slot's time is over", "run in a longer slot, or write checkpoints", 1213),
    Code.SERVER_UNREACHABLE: Entry(_V, "the queue did not answer", "try again later; ask who runs the queue", 1318),
    Code.SERVER_REFUSED: Entry(_V, "the queue refused", "read the queue's message", 1236),
    Code.CREDENTIAL_EXPIRED: Entry(_V, "a credential has expired", "renew the credential", 1373),
    Code.CREDENTIAL_REFUSED: Entry(
        _V, "a credential cannot be used, or is not accepted", "check the token or certificate, and its role", 1163
    ),
    Code.PILOT_BUG: Entry(
        _A, "the pilot met something it did not expect", "run elsewhere; please report it with the job's log", 1319
    ),
    Code.PILOT_RESTARTED: Entry(
        _A, "the pilot died and the payload could not be adopted", "it is tried again, here or elsewhere", 1319
    ),
    Code.PILOT_DEADLINE: Entry(
        _A, "an order was not carried out in its time", "it is tried again, here or elsewhere", 1367
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job did not succeed: a value on the job, sent as it is."""

    party: Party
    code: Code
    message: str
    remedy: str
    detail: str = ""


def fault(code: Code, detail: str = "", party: Party | None = None) -> Fault:
    """The registered fault of that code, with what was seen this time."""
    entry = REGISTRY[code]
    return Fault(party or entry.party, code, entry.message, entry.remedy, detail)


# Failures charged to these parties count against the job's attempts; all others against max_interruptions.
CHARGED = frozenset({Party.JOB, Party.PAYLOAD, Party.INPUT})
