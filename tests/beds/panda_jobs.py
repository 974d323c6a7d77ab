"""What stands in the bed's database: queues, storages, jobs; plain data."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SITE, RSE, HARVESTER = "BED_SITE", "BED_RSE", "BED_HARVESTER"
STATUSES = {"BED": "online", "BED_TEST": "test", "BED_OFFLINE": "offline"}
SEED = (
    ("site", {"site_name": SITE, "role": "dummy", "tier_level": 1}),
    (
        "ddm_endpoint",
        {
            "ddm_endpoint_name": RSE, "site_name": SITE, "ddm_spacetoken_name": "DATADISK", "type": "DATADISK",
            "is_tape": "N", "detailed_status": "{}",
        },
    ),
    ("Harvester_Instances", {"harvester_ID": HARVESTER}),
    # One dispatch in ten goes by age alone, whatever the priorities: not here.
    (
        "config",
        {
            "app": "pandaserver", "component": "jobdispatch", "key": "SLOPPY_DISPATCH_RATIO", "value": "-1",
            "type": "int",
        },
    ),
)  # fmt: skip


# What `get_detailed_info` of a task reads beside the tables that all pilots' calls touch.
MORE_TABLES = (
    "CREATE TABLE DOMA_PANDA.JEDI_JobParams_Template (jediTaskID bigint, jobParamsTemplate text)",
    "CREATE TABLE DOMA_PANDA.JEDI_TaskParams (jediTaskID bigint, taskParams text)",
    *(
        f"ALTER TABLE DOMA_PANDA.JEDI_Datasets ALTER COLUMN {each} TYPE bigint USING {each}::bigint"
        for each in ("nFiles", "nFilesFinished", "nFilesFailed", "nFilesMissing")
    ),
)


def queue(name: str) -> dict[str, Any]:
    """One PanDA queue in CRIC's words."""
    return {
        "name": name, "nickname": name, "panda_resource": name, "atlas_site": SITE, "gstat": SITE, "site": SITE,
        "status": STATUSES[name], "state": "ACTIVE", "type": "unified", "resource_type": "GRID", "vo_name": "wlcg",
        "cloud": "WORLD", "region": "WORLD", "maxrss": 64000, "minrss": 0, "maxtime": 86400, "mintime": 0,
        "maxwdir": 50000, "maxinputsize": 20000, "corecount": 0, "corepower": 10, "coreenergy": 10,
        "capability": "ucore", "workflow": "pull_ups", "catchall": "", "container_type": "apptainer:pilot",
        "copytools": {"rucio": {"setup": ""}}, "acopytools": {"pr": ["rucio"], "pw": ["rucio"]},
        "astorages": {each: [RSE] for each in ("pr", "pw", "read_lan", "write_lan")},
        "timefloor": 600, "is_cvmfs": False, "ddm": RSE, "releases": [], "validatedreleases": "",
        "environ": "source /x; BED_WORD=here",
    }  # fmt: skip


def storage(folder: str) -> dict[str, Any]:
    """The bed's storage in CRIC's words: a folder."""
    protocols = [["file://", folder, 1]]
    return {
        RSE: {
            "id": 1, "name": RSE, "type": "DATADISK", "token": "DATADISK", "state": "ACTIVE", "site": SITE,
            "is_deterministic": True, "se": "file://", "endpoint": folder, "path": folder,
            "resource": {"endpoint": "file://"},
            "aprotocols": dict.fromkeys(("r", "w", "d"), protocols),
            "arprotocols": {
                each: [{"endpoint": "file://", "path": folder, "flavour": "POSIX", "id": 1}]
                for each in ("read_lan", "read_wan", "write_lan", "write_wan", "pr", "pw")
            },
            "rprotocols": {"1": {"endpoint": "file://", "path": folder, "flavour": "POSIX"}},
        }
    }  # fmt: skip


@dataclass(frozen=True)
class File:
    """One file of a job: input, output or log; `checksum` with its kind (`ad:...`), `block` where an output goes."""

    lfn: str
    kind: str
    size: int = 0
    checksum: str = ""
    guid: str = ""
    scope: str = "bed"
    block: str = ""


@dataclass(frozen=True)
class PandaJob:
    """A job as JEDI would store it; `more` are attributes of the package's JobSpec."""

    transformation: str = "/bin/sh"
    parameters: str = ""
    name: str = field(default_factory=lambda: f"job-{uuid.uuid4().hex[:12]}")
    queue: str = "BED"
    label: str = "user"
    priority: int = 3000  # below 1500 the server makes its own for users' jobs
    files: Sequence[File] = ()
    log: File | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def rows(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The attributes of the job and of its files; a log is one of them, always."""
        dataset = f"bed.{self.name}"
        job = {
            "jobName": self.name, "jobDefinitionID": 1, "jobsetID": 1, "computingSite": self.queue,
            "prodSourceLabel": self.label, "transformation": self.transformation, "jobParameters": self.parameters,
            "prodUserID": "/CN=Robot Pilot", "prodUserName": "Robot Pilot", "VO": "wlcg", "cloud": "WORLD",
            "assignedPriority": self.priority, "currentPriority": self.priority, "processingType": "bed",
            "coreCount": 1, "maxCpuCount": 3600, "minRamCount": 100, "minRamUnit": "MB", "maxDiskCount": 100,
            "maxDiskUnit": "MB", "metadata": "",
            "maxWalltime": 3600, "attemptNr": 1, "maxAttempt": 3, "resource_type": "Undefined", "gshare": "Test",
            "destinationSE": RSE, "destinationDBlock": dataset, **self.more,
        }  # fmt: skip
        log = self.log or File(f"{self.name}.log.tgz", "log")
        return job, [self._row(each, dataset) for each in (*self.files, log)]

    def _row(self, file: File, dataset: str) -> dict[str, Any]:
        common = {"lfn": file.lfn, "type": file.kind, "scope": file.scope, "dataset": dataset}
        if file.kind == "input":
            known = {"GUID": file.guid or str(uuid.uuid4()), "checksum": file.checksum, "status": "ready"}
            return {**common, **known, "fsize": file.size, "prodDBlock": dataset, "dispatchDBlock": "NULL"}
        target = {
            "destinationDBlock": file.block or dataset,
            "destinationDBlockToken": "DATADISK",
            "destinationSE": RSE,
        }
        return {**common, **target, "GUID": file.guid or str(uuid.uuid4()), "fsize": 0}
