"""What is stored of a job, and where: exact places, and all logs as one archive."""

import gzip
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pilot.adapters.outputs import Outputs
from pilot.adapters.storage_file import FileStorage
from pilot.core.reporting import Dossier
from pilot.model.facts import Stored
from pilot.model.faults import Code
from pilot.model.files import Output, What
from pilot.model.job import Grant, Job, JobSpec, Phase, Verdict
from pilot.model.orders import Kind, Order
from pilot.ports import Final
from pilot.shell.crew import Task
from pilot.shell.doors import Doors, House, sandbox_of
from pilot.shell.staging import Staging, _make


class Place:
    """A job that has ended, and what would be stored of it."""

    def __init__(self, root: Path, destination: str = "", **spec: object) -> None:
        self.out = root / "out"
        self.house = House(scratch=root / "jobs", kept=root / "kept")
        doors = SimpleNamespace(storage={"file": FileStorage()}, collect=Outputs())
        self.staging = Staging(cast(Doors, doors), self.house)
        grant = Grant("7", 2, JobSpec("n", ("true",), **spec), 60.0, destination=destination)  # type: ignore[arg-type]
        self.job = Job("k", Phase.STAGING_OUT, grant, Verdict.FAILED)
        self.sandbox = sandbox_of(self.house, self.job)
        _make(self.sandbox)
        for name, text in (("stdout", "said\n"), ("stderr", ""), ("pilot", '{"event": "Exited"}\n')):
            (self.sandbox.logs / name).write_text(text)

    def url(self, name: str) -> str:
        return (self.out / name).as_uri()

    def store(self, what: What = What.ALL, spec: JobSpec | None = None) -> Stored:
        grant = self.job.grant
        assert grant is not None
        job = replace(self.job, grant=replace(grant, spec=spec)) if spec else self.job
        return self.staging.store(Task(Order("k", Kind.STORE, 1, what), job, Dossier()))


def test_an_output_with_an_exact_place_goes_there_and_nowhere_else(tmp_path: Path) -> None:
    place = Place(tmp_path, (tmp_path / "queue").as_uri(), outputs=(Output("a.txt", url=(tmp_path / "x.1").as_uri()),))
    (place.sandbox.work / "a.txt").write_text("made")
    [record] = place.store().outputs
    assert (record.name, record.url) == ("a.txt", (tmp_path / "x.1").as_uri())
    assert (tmp_path / "x.1").read_text() == "made"
    assert not (tmp_path / "queue" / "7" / "2" / "a.txt").exists()


def test_one_place_takes_one_file(tmp_path: Path) -> None:
    place = Place(tmp_path, outputs=(Output("*.txt", url=(tmp_path / "x").as_uri()),))
    for name in ("a.txt", "b.txt"):
        (place.sandbox.work / name).write_text(name)
    with pytest.raises(Final) as told:
        place.store()
    assert told.value.fault.code is Code.OUTPUT_NAME
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("files", [("f",), ("f", "g")])
def test_a_folder_is_not_the_file_that_is_wanted(tmp_path: Path, files: tuple[str, ...]) -> None:
    place = Place(tmp_path, outputs=(Output("res.tgz", url=(tmp_path / "x").as_uri()),))
    (place.sandbox.work / "res.tgz").mkdir()
    for name in files:
        (place.sandbox.work / "res.tgz" / name).write_text(name)
    with pytest.raises(Final) as told:
        place.store()
    assert told.value.fault.code is Code.OUTPUT_MISSING
    assert "is a directory" in told.value.fault.detail
    assert not (tmp_path / "x").exists()


def test_the_archive_holds_all_logs_and_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path, log_archive=Output("job.log.tgz", url=(tmp_path / "job.log.tgz.1").as_uri()))
    (place.sandbox.logs / "validate.stderr").write_text("bad\n")
    stored = place.store(What.LOGS)
    assert stored.archive is not None
    assert (stored.archive.name, stored.archive.url) == ("job.log.tgz", (tmp_path / "job.log.tgz.1").as_uri())
    with tarfile.open(tmp_path / "job.log.tgz.1") as tar:
        held = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
        assert {(each.mtime, each.uid, each.uname) for each in tar.getmembers()} == {(0, 0, "")}
    assert held == {
        "stdout.log": b"said\n",
        "stderr.log": b"",
        "pilot.log": b'{"event": "Exited"}\n',
        "validate.stderr.log": b"bad\n",
    }


def test_the_same_logs_make_the_same_bytes_whenever_and_wherever(tmp_path: Path) -> None:
    made = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name, log_archive=Output("l.tgz", url=(tmp_path / name / "l.tgz").as_uri()))
        place.store(What.LOGS)
        made.append((tmp_path / name / "l.tgz").read_bytes())
    assert made[0] == made[1]
    assert gzip.decompress(made[0])


def test_a_retry_stores_what_the_first_try_stored_though_the_logs_grew(tmp_path: Path) -> None:
    """Storage takes a name once: other bytes under it would be refused for good."""
    place = Place(tmp_path, log_archive=Output("l.tgz", url=(tmp_path / "l.tgz").as_uri()))
    first = place.store(What.LOGS)
    with (place.sandbox.logs / "pilot").open("a") as log:
        log.write('{"event": "Recovered"}\n')
    assert place.store(What.LOGS) == first


@pytest.mark.parametrize("left", ["logs.part", "logs.tgz.part"])
def test_half_an_archive_of_a_dead_pilot_is_made_anew(tmp_path: Path, left: str) -> None:
    place = Place(tmp_path, log_archive=Output("l.tgz", url=(tmp_path / "l.tgz").as_uri()))
    (place.sandbox.pilot / left).write_bytes(b"\x1f\x8b half")
    place.store(What.LOGS)
    with tarfile.open(tmp_path / "l.tgz") as tar:
        assert "stdout.log" in tar.getnames()


def test_a_link_in_place_of_a_log_brings_nothing_into_the_archive(tmp_path: Path) -> None:
    place = Place(tmp_path, log_archive=Output("l.tgz", url=(tmp_path / "l.tgz").as_uri()))
    (tmp_path / "secret").write_text("token")
    (place.sandbox.logs / "stdout").unlink()
    (place.sandbox.logs / "stdout").symlink_to(tmp_path / "secret")
    place.store(What.LOGS)
    with tarfile.open(tmp_path / "l.tgz") as tar:
        assert tar.getnames() == ["stderr.log", "pilot.log"]


def test_without_a_place_there_is_no_archive_and_nothing_breaks(tmp_path: Path) -> None:
    stored = Place(tmp_path, log_archive=Output("l.tgz")).store(What.LOGS)
    assert (stored.archive, stored.logs) == (None, ())
    inside = Place(tmp_path / "other", (tmp_path / "queue").as_uri(), log_archive=Output("l.tgz")).store(What.LOGS)
    assert inside.archive is not None
    assert inside.archive.url == (tmp_path / "queue" / "7" / "2" / "l.tgz").as_uri()
