"""A plain PanDA server as far as a pilot sees it, behind the line: made from captured exchanges of server 1.0.4.

What it does differently from the real one is found by the contract of queues, which both pass with the same losses.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot.ports import PortError
from pilot.wire.envelope import Reply, read_reply

OLD = "Argument error: got an unexpected keyword argument 'target_architecture'"
FINAL = ("finished", "failed")
GETS = ("is_alive", "get_job_status", "get_resource_types", "get_detailed_info")


@dataclass
class Row:
    """One job on record."""

    definition: dict[str, object]
    status: str = "activated"
    command: str = "NULL"
    attempt: int = 0
    updates: list[dict[str, object]] = field(default_factory=list)


@dataclass
class Panda:
    """The server, and the line to it; `break_next` raises instead of the next answers, before or after the work."""

    origin: str = "https://panda.test:25443"
    rows: dict[int, Row] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    takes_hardware: bool = True
    stores_metadata: bool = True
    broken: list[tuple[PortError, bool]] = field(default_factory=list)
    instead: dict[str, list[Reply]] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    points: dict[str, dict[str, object]] = field(default_factory=dict)
    kinds: list[dict[str, object]] = field(default_factory=list)
    tasks: dict[int, str] = field(default_factory=dict)
    closed: int = 0

    def add(self, definition: Mapping[str, object]) -> Row:
        """One more job that waits."""
        number, attempt = definition["PandaID"], definition["attemptNr"]
        assert isinstance(number, int)
        assert isinstance(attempt, int)
        self.rows[number] = Row(dict(definition), attempt=attempt)
        return self.rows[number]

    def kill(self, number: int) -> None:
        """As an operator ends a job: one that nobody has is over at once."""
        row = self.rows[number]
        row.command = "tobekilled"
        row.status = "cancelled" if row.status == "activated" else row.status

    def call(self, method: str, path: str, arguments: Mapping[str, object]) -> Reply:
        """One request: everything goes through text and back, as over a wire."""
        verb, asked = path.rpartition("/")[2], json.loads(json.dumps(dict(arguments)))
        assert path.startswith("/api/v1/")
        assert method == ("GET" if verb in GETS else "POST")
        self.seen.append((verb, asked))
        problem, done = self.broken.pop(0) if self.broken else (None, True)
        reply = self._answer(verb, asked) if done else Reply(True)
        if problem is not None:
            raise problem
        return read_reply(json.dumps({"success": reply.success, "message": reply.message, "data": reply.data}).encode())

    def close(self) -> None:
        self.closed += 1

    def verbs(self) -> list[str]:
        """What was asked, in order."""
        return [verb for verb, _ in self.seen]

    def _answer(self, verb: str, asked: dict[str, object]) -> Reply:
        if self.instead.get(verb):
            return self.instead[verb].pop(0)
        found = getattr(self, verb)(asked)
        assert isinstance(found, Reply)
        return found

    # --- PanDA's calls ---

    def is_alive(self, asked: dict[str, object]) -> Reply:
        return Reply(True)

    def acquire_jobs(self, asked: dict[str, object]) -> Reply:
        if "target_architecture" in asked and not self.takes_hardware:
            return Reply(False, OLD)
        count = asked["n_jobs"]
        assert isinstance(count, int)
        kind = asked.get("resource_type")
        fit = [each for each in self.rows.values() if kind in (None, each.definition["resource_type"])]
        waiting = [each for each in fit if each.status == "activated"]
        waiting = sorted(waiting, key=_priority, reverse=True)[:count]
        for each in waiting:
            each.status = "sent"
        if not waiting:
            return Reply(False, "No jobs in PanDA")
        return Reply(True, "", {"StatusCode": 0, "jobs": [each.definition for each in waiting]})

    def update_job(self, asked: dict[str, object]) -> Reply:
        row = self.rows.get(int(str(asked["job_id"])))
        assert type(asked["job_id"]) is int
        if "meta_data" in asked and not self.stores_metadata:
            return Reply(True, "Failed to add meta_data", {"StatusCode": 30, "ErrorDiag": "x"})
        if row is None or row.attempt != asked["attempt_nr"] or row.status in (*FINAL, "cancelled"):
            return Reply(True, "", {"StatusCode": 0, "command": "tobekilled"})
        status = str(asked["job_status"])
        if status in ("finished", "failed") and any(
            each["job_status"] in ("finished", "failed") for each in row.updates
        ):
            return Reply(True, "", {"StatusCode": 0, "command": "alreadydone"})
        row.updates.append(asked)
        row.status = "holding" if status in (*FINAL, "holding") else status
        return Reply(True, "", {"StatusCode": 0, "command": row.command})

    def update_jobs_bulk(self, asked: dict[str, object]) -> Reply:
        jobs = asked["job_list"]
        assert isinstance(jobs, list)
        replies = [self.update_job(each) for each in jobs]
        return Reply(True, "", [{"success": r.success, "message": r.message, "data": r.data} for r in replies])

    def get_job_status(self, asked: dict[str, object]) -> Reply:
        ids = asked["job_ids"]
        assert isinstance(ids, list)
        known = [(each, self.rows.get(each)) for each in ids]
        return Reply(
            True,
            "",
            [
                {"job_id": number, "status": row.status, "attempt_number": row.attempt}
                if row
                else {"job_id": number, "status": "not found", "attempt_number": 0}
                for number, row in known
            ],
        )

    def get_resource_types(self, asked: dict[str, object]) -> Reply:
        return Reply(True, "", self.kinds) if self.kinds else Reply(False, "database error in the PanDA server")

    def get_detailed_info(self, asked: dict[str, object]) -> Reply:
        number = asked["task_id"]
        assert isinstance(number, int)
        if number not in self.tasks:
            return Reply(False, "Task not found or error retrieving task info")
        return Reply(True, "", {"jediTaskID": number, "architecture": self.tasks[number]})

    def update_worker_status(self, asked: dict[str, object]) -> Reply:
        return Reply(True)

    def update_worker_node(self, asked: dict[str, object]) -> Reply:
        return Reply(True, "Inserted new worker node.")

    def update_worker_node_gpu(self, asked: dict[str, object]) -> Reply:
        return Reply(True, "Inserted new worker node GPU.")

    def acquire_event_ranges(self, asked: dict[str, object]) -> Reply:
        return Reply(True, "", [{"eventRangeID": self.ranges.pop(0), "LFN": None}] if self.ranges else [])

    def update_single_event_range(self, asked: dict[str, object]) -> Reply:
        return Reply(True)

    def relay_idds_command(self, asked: dict[str, object]) -> Reply:
        kwargs = json.loads(str(asked["kwargs"]))
        if asked["command_name"] == "get_hyperparameters":
            return Reply(True, "", [{"id": kwargs["id"], **self.points[kwargs["id"]]}])
        if kwargs["id"] not in self.points:
            return Reply(False, "failed to execute command")
        self.points[kwargs["id"]]["loss"] = kwargs["loss"]
        return Reply(True, "", {"status": 0, "message": "update successfully"})


def _priority(row: Row) -> int:
    return int(str(row.definition["currentPriority"]))
