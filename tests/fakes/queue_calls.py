"""Our own calls, answered by the embedded queue: what the fake server serves when no fault is in its way."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.capability import Offer
from pilot.model.faults import Code, fault
from pilot.model.files import CodePack
from pilot.model.job import Grant, JobSpec
from pilot.model.plain import PlainError, from_plain, to_plain
from pilot.model.queue import JobState, Submission
from pilot.model.report import Report
from pilot.ports import Beat, ClaimRequest, Passing, PortError, Unclaim, Unknown
from pilot.queue.local import LocalServer
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from pilot.wire.calls import discovery

Answer = tuple[int, bytes]
Json = dict[str, Any]
NOTHING = {"success": True, "message": "", "data": None}


class QueueCalls:
    """One queue file behind our calls; one call at a time."""

    def __init__(self, path: Path, wall: Callable[[], float], plain_panda: bool = False) -> None:
        self._lock = threading.Lock()
        self._wall = wall
        self._plain_panda = plain_panda
        self._store, self._users_store = open_store(path), open_store(path)
        self._servers: dict[str, LocalServer] = {}
        self._codes: dict[str, bytes] = {}
        self._stirs = 0
        self._first: Grant | None = None
        self.doubles = 0  # how often the first grant is delivered again
        self.done: list[tuple[str, Json]] = []  # every call that was carried out

    def close(self) -> None:
        self._store.close()
        self._users_store.close()

    def alive(self) -> Answer:
        return _said(None if self._plain_panda else discovery())

    def call(self, verb: str, body: bytes, user: str) -> Answer:
        """Carries one call out, and says so in the envelope."""
        try:
            asked = json.loads(body)
            with self._lock:
                self.done.append((verb, asked))
                name = asked.get("queue", "default")
                self._server = self._servers.setdefault(
                    name, LocalServer(self._store, ClassAdMatcher(), name, self._wall)
                )
                return _said(getattr(self, f"_{verb}")(asked, self._queue(user, name)))
        except PortError as problem:
            return _refused(problem)
        except (PlainError, KeyError, ValueError, AttributeError) as problem:
            return 422, _envelope(False, f"{verb}: {problem}", None)

    def put_code(self, sha256: str, archive: bytes) -> Answer:
        with self._lock:
            self._codes[sha256] = archive
        return _said(None)

    def get_code(self, sha256: str) -> Answer:
        try:
            with self._lock:
                return 200, LocalServer(self._store, ClassAdMatcher()).code(CodePack(sha256, 0))
        except PortError as problem:
            return _refused(problem)

    def _queue(self, user: str, name: str) -> LocalQueue:
        return LocalQueue(self._users_store, ClassAdMatcher(), user, name, wall=self._wall)

    def _version(self) -> str:
        return f"{self._store.version()}.{self._stirs}"

    # --- a pilot's ---

    def _register(self, asked: Json, _: LocalQueue) -> object:
        return self._server.register(from_plain(Offer, asked["offer"]))

    def _claim(self, asked: Json, _: LocalQueue) -> object:
        offers = [from_plain(Offer, each) for each in asked["offers"]]
        before = self._version()
        grants = self._server.claim([ClaimRequest(claim_id, offers[number]) for claim_id, number in asked["claims"]])
        self._stirs += any(grants)
        grants = self._doubled(list(grants))
        return {"grants": grants, "version": "" if any(grants) else before}

    def _doubled(self, grants: list[Grant | None]) -> list[Grant | None]:
        """The first grant ever made, given once more to another claim."""
        if self.doubles and self._first is not None and None in grants:
            self.doubles -= 1
            grants[grants.index(None)] = self._first
        self._first = self._first or next((each for each in grants if each is not None), None)
        return grants

    def _changed(self, asked: Json, _: LocalQueue) -> object:
        changed = asked["since"] != self._version() or self._server.changed()
        return {"changed": changed, "version": self._version()}

    def _renew(self, asked: Json, _: LocalQueue) -> object:
        return self._server.renew([from_plain(Beat, each) for each in asked["beats"]])

    def _report(self, asked: Json, _: LocalQueue) -> object:
        self._stirs += 1
        return self._server.report([from_plain(Report, each) for each in asked["reports"]])

    def _give_back(self, asked: Json, _: LocalQueue) -> None:
        self._stirs += 1
        self._server.give_back([from_plain(Unclaim, each) for each in asked["claims"]])

    def _leave(self, _asked: Json, _: LocalQueue) -> None:
        """Nothing depends on it."""

    def _adopt(self, asked: Json, _: LocalQueue) -> object:
        self._stirs += 1
        return self._server.adopt(asked["pilot_id"], [from_plain(Beat, each) for each in asked["attempts"]])

    # --- a user's ---

    def _add(self, asked: Json, queue: LocalQueue) -> object:
        specs = [(from_plain(JobSpec, each["spec"]), each["job_id"]) for each in asked["jobs"]]
        return queue.add([Submission(spec, name, self._code_of(spec)) for spec, name in specs])

    def _add_sweep(self, asked: Json, queue: LocalQueue) -> object:
        spec = from_plain(JobSpec, asked["template"]["spec"])
        template = Submission(spec, asked["template"]["job_id"], self._code_of(spec))
        return queue.add_sweep(template, [dict(zip(asked["names"], each, strict=True)) for each in asked["rows"]])

    def _code_of(self, spec: JobSpec) -> bytes:
        return self._codes[spec.code.sha256] if spec.code else b""

    def _find(self, asked: Json, queue: LocalQueue) -> object:
        return queue.find([JobState(each) for each in asked["states"]], asked["owner"], asked["limit"], asked["after"])

    def _show(self, asked: Json, queue: LocalQueue) -> object:
        return queue.show(asked["job"])

    def _results(self, asked: Json, queue: LocalQueue) -> object:
        return queue.results(asked["job"])[asked["skip"] :][: asked["limit"]]

    def _explain(self, asked: Json, queue: LocalQueue) -> object:
        return queue.explain(asked["job"])

    def _hold(self, asked: Json, queue: LocalQueue) -> object:
        return queue.hold(asked["jobs"])

    def _release(self, asked: Json, queue: LocalQueue) -> object:
        return queue.release(asked["jobs"])

    def _cancel(self, asked: Json, queue: LocalQueue) -> object:
        return queue.cancel(asked["jobs"])

    def _checkpoint(self, asked: Json, queue: LocalQueue) -> object:
        return queue.checkpoint(asked["jobs"])

    def _settings(self, _: Json, queue: LocalQueue) -> object:
        return queue.settings()

    def _log(self, asked: Json, queue: LocalQueue) -> object:
        text = b"one\ntwo\n"[asked["offset"] :].decode()
        queue.show(asked["job"])
        return {"text": text, "offset": 8, "live": False}


def envelope_of(code: Code, message: str, kind: str) -> bytes:
    """A refusal as our server words it."""
    return _envelope(False, message, {"code": code.value, "kind": kind})


def _said(value: object) -> Answer:
    return 200, _envelope(True, "", to_plain(value))


def _refused(problem: PortError) -> Answer:
    kind = "unknown" if isinstance(problem, Unknown) else "passing" if isinstance(problem, Passing) else "final"
    status = {"unknown": 404, "passing": 503, "final": 409}[kind]
    found = problem.fault
    return status, envelope_of(found.code, found.detail or fault(found.code).message, kind)


def _envelope(success: bool, message: str, data: object) -> bytes:
    return json.dumps({"success": success, "message": message, "data": data}).encode()
