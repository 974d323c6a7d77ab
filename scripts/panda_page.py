"""docs/reference/panda.md: what each of our verbs and verdicts becomes on a plain PanDA server; drawn by scripts/docs.

The tables of words come from the code that translates; what is lost is written here, one line for each verb of the
port, and the page cannot be drawn when a verb has none.
"""

import ast
from collections.abc import Callable
from pathlib import Path

from pilot.adapters.server_panda import PHASE_PAUSE_SECONDS, POLL_CAP_SECONDS, POLL_SECONDS
from pilot.core.timing import LONGEST_SILENCE
from pilot.model.job import Phase, Verdict
from pilot.model.numbers import panda_number
from pilot.ports import Server
from pilot.wire import hearing, telling, transforms
from pilot.wire.calls import CALLS
from pilot.wire.definition import REFUSED
from pilot.wire.queuekeys import IGNORED, KEYS
from tests.contracts.panda_losses import LOSSES

Table = Callable[[list[str], list[list[object]]], str]

VERBS = {
    "register": (
        "`is_alive`, the queue's data, `get_resource_types`, `update_worker_node`, `update_worker_node_gpu`, and "
        "`update_worker_status` started where Harvester started the pilot",
        "nothing; the answers of the last three are not waited upon",
    ),
    "claim": (
        "`acquire_jobs`, one for all that is wanted on one offer, devices in `target_architecture`; where there are "
        "devices, `get_detailed_info` of a job's task, for the definition leaves out which device it wishes; the "
        "first heartbeat says `starting`, once the job stands in the pilot's journal",
        "the claim id: an answer that was lost, or a pilot killed before it is on disk, leaves its jobs `sent` until "
        "the server takes them for lost, and "
        "asking again gives others. Of the offer, requirements and images: memory, disk, time left and devices count, "
        "and cores as far as resource types tell them apart",
    ),
    "changed": (
        f"nothing: the next claim asks, after {POLL_SECONDS:g} s and then up to {POLL_CAP_SECONDS:g} s",
        "the long look: a new job is found when it is asked for",
    ),
    "renew": (
        "`update_job`, several in `update_jobs_bulk`; the lease is the server's limit for heartbeats (`panda_lease`); "
        f"one more at each change of phase, {PHASE_PAUSE_SECONDS:g} s after another at the soonest",
        f"short leases: a pilot that is gone is noticed after hours, a kill within {LONGEST_SILENCE / 60:g} minutes. "
        "`checkpoint` on demand: PanDA has no such word",
    ),
    "report": (
        "`update_job` finished or failed, with timing, metrics, error number and text, metadata, and output report",
        "columns for shares, isolation and devices: they are in `meta_data`, which the server keeps of "
        "jobs that finished, and only where none came with the job. The checkpoint: the next attempt starts anew",
    ),
    "give_back": (
        f"`update_job` failed with {panda_number(telling.NUMBERED[Verdict.INTERRUPTED])}; PanDA tries again",
        "that no harm was done: it counts as an attempt",
    ),
    "adopt": (
        "`get_job_status`, its attempt compared",
        "nothing while the server still waits; after its limit the attempt is fenced",
    ),
    "code": ("nothing: sandboxes are inputs, fetched from the server's cache without a credential", "nothing"),
    "close": ("`update_worker_status` finished, where Harvester started the pilot", "nothing"),
}

# What PanDA lacks, and by which of our own calls a server of ours has it, or that there is none yet.
BEYOND = {
    "lease": ("renew", "the server's limit for silent pilots, hours"),
    "claim id": ("claim", "nothing: an answer that is lost leaves its jobs `sent`"),
    "offer and requirements": ("claim", "memory, disk, time left, devices and resource types of the offer"),
    "resume": ("claim", "nothing: another attempt starts anew"),
    "a look at the queue": ("changed", "nothing: each look is a claim"),
    "units": (
        "no call yet: they come with studies",
        "event ranges; this pilot draws one for a job of `runHPO`",
    ),
    "gang": ("no call yet", "nothing: a job has one node"),
    "stop-trial": (
        "no call yet: it comes with studies",
        "nothing: `softkill` ends a whole job",
    ),
}
_NOT_YET = {"units": "unit", "gang": "gang", "stop-trial": "trial"}

HEAD = """# A plain PanDA server as the queue

`--queue https://HOST:25443 --queue-name PANDA_QUEUE`. The pilot asks `is_alive` first; a server that does not say there
that it has calls of ours is never sent one. What follows is what becomes of ours on such a server, and what is lost.
How to set it up: the `panda_*` keys in [configuration.md](configuration.md); why the calls are not the same for both
kinds of queue: [decision 10](../decisions/0010-own-calls-beside-pandas.md).
"""

# Tried on the real server of the test bed.
BESIDE = {
    "`get_proxy`, `get_key_pair`, `get_user_secrets`": "`server_panda_secrets.py`, not used by `pilot run`: into files "
    "with mode 0600, never shown; no payload gets one",
    "`get_available_event_range_count`, `get_event_range_statuses`, `update_event_ranges`": "`server_panda_events.py`, "
    "not used by `pilot run`; server 1.0.4 carries the last out and answers 500, so what stands on record is looked at",
    "`get_access_token`": "a token that is half through its life is renewed where the pilot has a key to it "
    "(`token_key_file`), unless the site says `no_token_renewal`",
}

LISTS = """## Files

An endpoint (RSE) is a URL prefix: from `panda_storages`, else from a storages document. Below it files lie where
Rucio's deterministic rule puts them, `SCOPE/xx/yy/NAME` with the MD5 of `SCOPE:NAME`, dots of users' and groups' scopes
written as slashes. Outputs and the log's archive go to the exact place that the job names; the server's adder registers
them, the pilot never does. A GUID is a function of job, attempt and name, so that a report can be said twice. Of
checksums adler32 is verified; an input with only an MD5 is taken by its size.

## What is not done

Event service, merging on site, the prefetcher, cloned jobs, user secrets, co-processes, direct access to inputs (every
input is staged), S3 keys, proxies for payloads, `gdb` and `du` on request, gangs, and resuming from a checkpoint.
"""


def page(table: Table) -> str:
    """The whole page."""
    verbs = [each for each in vars(Server) if not each.startswith("_")]
    assert verbs == list(VERBS), "a verb of the port has no line in scripts/panda_page.py"
    parts = [
        HEAD,
        "## Verbs\n",
        table(["ours", "on PanDA", "what is lost"], [[f"`{name}`", *VERBS[name]] for name in verbs]),
        "## Promises of a queue that are not kept\n\n"
        f"The contract of queues is asked of a real PanDA server too. Of its {_promises()} tests {_lost()} fail there, "
        "and are known to; they stand for these promises:\n",
        table(["promise", "why"], [[name, loss.why] for name, loss in LOSSES.items()]),
        _beyond(table),
        "## What the site's queue data does\n\nOf the queue's JSON (CRIC), from `panda_queue_data` or the server's "
        "cache. Keys that stand in neither table are not known to pilots, and not looked at.\n",
        table(["key", "what it does"], [[f"`{key}`", what] for key, what in KEYS.items()]),
        table(["key without effect", "why"], [[f"`{key}`", why] for key, why in IGNORED.items()]),
        "## Where a job stands\n",
        table(["phase", "`job_status`"], [[f"`{each.value}`", f"`{telling.STATES[each.value]}`"] for each in Phase]),
        "## How it ended\n",
        table(["verdict", "`job_status`", "`pilot_error_code`"], [_verdict(each) for each in Verdict]),
        "The numbers of faults are those of [faults.md](faults.md).\n\n## What the server says to a heartbeat\n",
        table(["PanDA's word", "ours"], _words()),
        _scripts(table),
        "## Calls beside the queue\n",
        table(["call", "what becomes of it"], [[name, what] for name, what in BESIDE.items()]),
        LISTS,
    ]
    return "\n".join(parts)


def _beyond(table: Table) -> str:
    """Whoever adds a call for one of them has to say so above."""
    assert {name for name, (call, _) in BEYOND.items() if call not in CALLS} == set(_NOT_YET)
    assert not [each for each in CALLS for word in _NOT_YET.values() if word in each]
    rows = [[name, f"`{call}`" if call in CALLS else call, there] for name, (call, there) in BEYOND.items()]
    return "## What PanDA has no word for\n\n" + table(["what", "our own call", "on a plain PanDA server"], rows)


def _promises() -> int:
    """How many tests the contract of queues has; one with several beds or values counts once."""
    found = ast.parse((Path(__file__).parents[1] / "tests/contracts/test_server.py").read_text()).body
    return sum(isinstance(each, ast.FunctionDef) and each.name.startswith("test_") for each in found)


def _lost() -> int:
    return sum(len(each.tests) for each in LOSSES.values())


def _verdict(verdict: Verdict) -> list[object]:
    fixed = telling.NUMBERED.get(verdict)
    number = "0" if verdict is Verdict.SUCCEEDED else "that of the fault" if fixed is None else panda_number(fixed)
    return [f"`{verdict.value}`", f"`{telling.ENDS[verdict]}`", number]


def _words() -> list[list[object]]:
    commands = [[f"`{word}`", f"command `{ours}`"] for word, ours in hearing.COMMANDS.items()]
    looks = ", ".join(f"`{each}`" for each in sorted(hearing.LOOKS))
    over = ", ".join(f"`{each}`" for each in sorted(hearing.NOT_OURS))
    return [
        *commands,
        ["`tobekilled`, and no such attempt on record", "the attempt is no longer ours"],
        [over, "the attempt is no longer ours"],
        [looks, "a look into the job's own directory, answered with the next heartbeat; never a shell"],
        ["anything else", "nothing"],
    ]


def _scripts(table: Table) -> str:
    options = {"runGen": transforms.RUNGEN, "runcontainer": transforms.RUNCONTAINER, "runHPO": transforms.RUNHPO}
    assert set(options) == set(transforms.TRANSFORMS)
    rows = [[f"`{name}`", _named(f"{one.takes} {one.switches}"), _named(f"{one.idle} {one.idle_switches}")]
            for name, one in options.items()]  # fmt: skip
    refused = "; ".join(f"`{key}`" for key in REFUSED)
    return (
        "## The scripts of PanDA's users\n\nA `transformation` that is no URL is a command of the job's image. These "
        "three scripts are known by name and translated into commands of the job's own container; every other URL, and "
        "every option that stands in neither list, declines the job with the reason. So do these keys of a definition: "
        f"{refused}.\n\n" + table(["script", "options followed", "options without effect here"], rows) + "\n"
        "A sandbox is fetched from `/cache/` of the server, or of a host in `panda_sources`, over verified HTTPS and "
        "without a credential. For `runHPO` the pilot draws one point before the job starts and settles it with the "
        "report: `acquire_event_ranges`, `relay_idds_command`, `update_single_event_range`.\n"
    )


def _named(options: str) -> str:
    return " ".join(f"`{each}`" for each in options.split())
