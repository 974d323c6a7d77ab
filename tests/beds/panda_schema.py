"""The tables that a pilot's calls touch, for PanDA's server on PostgreSQL; run by the server's own Python.

No registry package carries PanDA's schema. The large tables follow from the package's own `_attributes`, so they fit
the release that is installed; the small ones are as its SQL strings name them. Anything more is missing on purpose: a
call that needs it fails in the server's log.

    python panda_schema.py FOLDER_OF_THE_SOCKET
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.beds import panda_stand_ins

SCHEMAS = ("DOMA_PANDA", "DOMA_PANDAARCH", "DOMA_PANDAMETA", "DOMA_DEFT")
SEQUENCES = (
    "JOBSDEFINED4_PANDAID_SEQ",
    "FILESTABLE4_ROW_ID_SEQ",
    "SUBCOUNTER_SUBID_SEQ",
    "JEDI_DATASET_CONT_FILEID_SEQ",
)

# Attributes that hold a number and do not say so in their names; `_zeroAttrs` of the package adds its own.
WHOLE = frozenset(
    """
    PandaID row_ID jobDefinitionID taskID jediTaskID datasetID fileID jobsetID parentID reqID workQueue_ID workerID
    nCore nJobs coreCount actualCoreCount nInputFiles nInputDataFiles inputFileBytes eventService failedAttempt
    maxWalltime hs06 hs06sec maxRSS maxVMEM maxSWAP maxPSS avgRSS avgVMEM avgSWAP avgPSS totRCHAR totWCHAR totRBYTES
    totWBYTES rateRCHAR rateWCHAR rateRBYTES rateWBYTES diskIO numberfiles currentfiles minRamCount nEvents attemptNr
    maxAttempt errorCode nativeExitCode
    """.split()  # noqa: SIM905
)
REAL = frozenset(
    {"cpuConversion", "gco2_regional", "gco2_global", "memory_leak", "memory_leak_x2", "cpuConsumptionTime"}
)
MOMENTS = frozenset(
    """
    creationTime modificationTime startTime endTime stateChangeTime prodDBUpdateTime creationdate modificationdate
    submitTime lastUpdate frozenTime requireTime throttledTime archTime assessmentTime lockedTime realModificationTime
    activatedTime queuedTime ttcPredictionDate ttcRequested ttcPredicted
    """.split()  # noqa: SIM905
)

TABLES = Path(__file__).with_name("panda_tables.sql")


def kind_of(column: str, zeros: Iterable[str]) -> str:
    if column in MOMENTS:
        return "timestamp"
    if column in REAL:
        return "double precision"
    # transExitCode is text in PanDA's own schema, and the server writes text into it.
    return "bigint" if column in WHOLE or column in zeros else "text"


def large(spec: type, more: str = "") -> str:
    names = getattr(spec, "_attributes", ()) or spec.attributes  # type: ignore[attr-defined]
    zeros = getattr(spec, "_zeroAttrs", ())
    return ", ".join([f"{each} {kind_of(each, zeros)}" for each in dict.fromkeys(names)] + ([more] if more else []))


def statements() -> Iterator[str]:
    """The whole schema; the package's classes are read here, so that their release decides."""
    from pandaserver.taskbuffer.DatasetSpec import DatasetSpec
    from pandaserver.taskbuffer.FileSpec import FileSpec
    from pandaserver.taskbuffer.JediDatasetSpec import JediDatasetSpec
    from pandaserver.taskbuffer.JediFileSpec import JediFileSpec
    from pandaserver.taskbuffer.JediTaskSpec import JediTaskSpec
    from pandaserver.taskbuffer.JobSpec import JobSpec
    from pandaserver.taskbuffer.WorkerSpec import WorkerSpec

    yield from (f"CREATE SCHEMA {each}" for each in SCHEMAS)
    yield from (f"CREATE SEQUENCE DOMA_PANDA.{each}" for each in SEQUENCES)
    yield "CREATE SEQUENCE DOMA_PANDAMETA.USERS_ID_SEQ"
    job = large(JobSpec)
    for name in ("jobsDefined4", "jobsActive4", "jobsArchived4", "jobsWaiting4"):
        yield f"CREATE TABLE DOMA_PANDA.{name} ({job}, PRIMARY KEY (PandaID))"
    yield f"CREATE TABLE DOMA_PANDAARCH.jobsArchived ({job})"
    files = large(FileSpec, more="modificationTime timestamp")
    yield f"CREATE TABLE DOMA_PANDA.filesTable4 ({files}, PRIMARY KEY (row_ID))"
    yield f"CREATE TABLE DOMA_PANDAARCH.filesTable_arch ({files})"
    yield f"CREATE TABLE DOMA_PANDA.Datasets ({large(DatasetSpec)}, PRIMARY KEY (vuid))"
    extra = "pilotStatus text, pilotStartTime timestamp, pilotEndTime timestamp, pilotStatusSyncTime timestamp"
    worker = f"{large(WorkerSpec, more=extra)}, PRIMARY KEY (harvesterID, workerID)"
    yield f"CREATE TABLE DOMA_PANDA.Harvester_Workers ({worker})"
    yield f"CREATE TABLE DOMA_PANDA.JEDI_Tasks ({large(JediTaskSpec)}, PRIMARY KEY (jediTaskID))"
    yield f"CREATE TABLE DOMA_PANDA.JEDI_Datasets ({large(JediDatasetSpec)})"
    yield f"CREATE TABLE DOMA_PANDA.JEDI_Dataset_Contents ({large(JediFileSpec)})"
    yield TABLES.read_text()


def main(socket: str) -> None:
    panda_stand_ins.install()
    import psycopg2

    connection = psycopg2.connect(host=socket, user="panda", dbname="postgres")
    with connection.cursor() as cursor:
        for each in statements():
            cursor.execute(each)
        # Nobody makes further databases, and every bed copies what is here.
        connection.commit()
        connection.autocommit = True
        cursor.execute("UPDATE pg_database SET datistemplate = false")
        for name in ("template0", "template1"):
            cursor.execute(f"DROP DATABASE {name}")
        cursor.execute("CHECKPOINT")
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
