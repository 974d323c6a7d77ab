"""What bad input gets: one clear line, whose fault it is, nothing lost, nothing left, and the next job runs."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.piloted import Rig, until_nothing_is_left
from tests.e2e.supervised import alive
from tests.sandboxes import apptainer_cache

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One job that goes wrong, and what is to be said about it."""

    name: str
    command: tuple[str, ...]
    blame: tuple[str, str]
    says: str
    zoo: tuple[str, ...] = ()
    keys: dict[str, object] = field(default_factory=dict)
    exit_code: int | None = None
    signal: int | None = None


def outputs(*names: str) -> dict[str, object]:
    return {"outputs": [{"name": each} for each in names]}


def limits(**keys: object) -> dict[str, object]:
    return {"needs": {"cpus": 1, **keys}}


PAYLOADS = [
    Case("exit-1", ("sh", "exit_with.sh", "1"), ("payload", "payload.exit"), "exit code 1", ("exit_with.sh",),
         exit_code=1),
    Case("exit-255", ("sh", "exit_with.sh", "255"), ("payload", "payload.exit"), "exit code 255", ("exit_with.sh",),
         exit_code=255),
    Case("exit-127", ("sh", "exit_with.sh", "127"), ("payload", "payload.exit"), "exit code 127", ("exit_with.sh",),
         exit_code=127),
    Case("segv", ("python3", "segv.py"), ("payload", "payload.signal"), "signal 11", ("segv.py",), signal=11),
    Case("kill-9-0", ("sh", "kill_group.sh"), ("payload", "payload.signal"), "signal 9", ("kill_group.sh",), signal=9),
    Case("no-command", ("no-such-program",), ("job", "command.missing"), "no-such-program"),
    Case("no-output", ("sh", "no_output.sh"), ("payload", "output.missing"), "model.onnx", ("no_output.sh",),
         outputs("model.onnx"), exit_code=0),
    Case("escape", ("sh", "escape_output.sh"), ("payload", "output.escape"), "output.txt", ("escape_output.sh",),
         outputs("output.txt"), exit_code=0),
    Case("escape-deep", ("sh", "escape_output.sh"), ("payload", "output.escape"), "deep", ("escape_output.sh",),
         outputs("deep/down/passwd"), exit_code=0),
    Case("fifo", ("sh", "hard_output.sh"), ("payload", "output.escape"), "output.txt", ("hard_output.sh",),
         outputs("output.txt"), exit_code=0),
    Case("closed", ("sh", "-c", "echo x > out.txt; chmod 0 .; exit 5"), ("payload", "payload.exit"), "exit code 5",
         keys=outputs("out.txt"), exit_code=5),
    Case("removes-all", ("sh", "-c", "rm -rf * .pilot; exit 6"), ("payload", "payload.exit"), "exit code 6",
         exit_code=6),
    Case("bad-name", ("sh", "hard_output.sh"), ("job", "output.name"), "two", ("hard_output.sh",), outputs("two*"),
         exit_code=0),
    Case("bad-result", ("python3", "lie_in_result.py", "nan"), ("payload", "payload.result"), "result.json",
         ("lie_in_result.py",), exit_code=0),
    Case("walltime", ("sh", "sleep_forever.sh"), ("payload", "payload.walltime"), "1 s", ("sleep_forever.sh",),
         limits(walltime="1s")),
    Case("ignores-term", ("python3", "ignore_term.py"), ("payload", "payload.walltime"), "1 s", ("ignore_term.py",),
         limits(walltime="1s"), signal=9),
    Case("disk", ("sh", "-c", "python3 fill_disk.py . 100 && sleep 600"), ("payload", "payload.disk"),
         "bytes in the sandbox", ("fill_disk.py",), limits(scratch="20MiB")),
    Case("invalid", ("sh", "-c", "echo 1 > out.txt"), ("payload", "payload.invalid"), "validate step: exit code 3",
         keys={**outputs("out.txt"), "validate": ["sh", "-c", "echo the model is wrong >&2; exit 3"]}, exit_code=0),
]  # fmt: skip

if os.geteuid() != 0:  # nothing is unreadable for root
    PAYLOADS.append(
        Case("unreadable", ("sh", "-c", "echo x > out.txt; chmod 0 out.txt"), ("payload", "output.missing"),
             "Permission denied", keys=outputs("out.txt"), exit_code=0),
    )  # fmt: skip


def _ids(case: Case) -> str:
    return case.name


def check(case: Case, report: dict[str, object]) -> None:
    fault = report["fault"]
    assert isinstance(fault, dict)
    assert (fault["party"], fault["code"]) == case.blame, fault["detail"]
    assert case.says in fault["detail"]
    assert report["verdict"] == "failed"
    if case.exit_code is not None:
        assert (report["exit_code"], report["signal"]) == (case.exit_code, None)
    if case.signal is not None:
        assert report["signal"] == case.signal
    assert not report["outputs"]


@pytest.mark.parametrize("case", PAYLOADS, ids=_ids)
@pytest.mark.parametrize("image", ["bare", pytest.param("test-tiny", marks=pytest.mark.apptainer)])
def test_a_bad_payload(rig: Rig, case: Case, image: str) -> None:
    contained = image != "bare"
    keys = {**case.keys, **({"image": image} if contained else {})}
    job = rig.job(case.name, *case.command, zoo=case.zoo, **keys)
    one = rig.one(job, runtime="apptainer" if contained else "bare")
    check(case, one.report)
    assert one.code == 20
    assert one.err == ""
    first, last = one.lines
    assert first.startswith(f"failed: {case.name} (")
    assert case.blame[1] in first
    assert case.says in first
    assert f"whose: {case.blame[0]}" in first
    assert last.startswith("pilot: 1 failed")
    assert one.log("pilot")
    assert [each.name for each in one.output.iterdir()] == ["logs"]


# --- job files -------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
JOB_FILES = {
    "key": (
        "name: x\ncommand: ['true']\nenviroment: {A: b}\n",
        "3:1: unknown key 'enviroment'; did you mean 'environment'?",
    ),
    "key-inside": (
        "name: x\ncommand: ['true']\nneeds: {cpu: 1}\n",
        "3:9: needs: unknown key 'cpu'; did you mean 'cpus'?",
    ),
    "type": ("name: x\ncommand: ['true']\nneeds: {cpus: many}\n", "3:15: needs.cpus: expected a whole number"),
    "unit": ("name: x\ncommand: ['true']\nneeds: {memory: 2 parsecs}\n", "3:17: needs.memory: "),
    "duration": ("name: x\ncommand: ['true']\nneeds: {walltime: 5 moons}\n", "3:19: needs.walltime: "),
    "bomb": (BOMB + "name: x\ncommand: ['true']\n", ""),
    "no-yaml": ("name: [x\ncommand: ['true']\n", "2:"),
    "tag": ("name: !!python/object/apply:os.system ['true']\ncommand: ['true']\n", "1:7: "),
    "binary": ("\x00\x01", ""),
    "empty": ("", "holds no job"),
    "list-of-none": ("[]", "holds no job"),
    "no-command": ("name: x\n", "the key 'command' is missing"),
    "expression": ("name: x\ncommand: ['true']\nrequirements: 'TARGET.Cpus >='\n", "3:15: requirements: "),
    "output-up": ("name: x\ncommand: ['true']\noutputs: [{name: ../../etc/x}]\n", "3:18: outputs[0].name: "),
    "output-absolute": ("name: x\ncommand: ['true']\noutputs: [{name: /etc/x}]\n", "3:18: outputs[0].name: "),
    "input-up": ("name: x\ncommand: ['true']\ninputs: [{url: 'file:///a', as: ../x}]\n", "3:33: inputs[0].as: "),
    "code-missing": ("name: x\ncommand: ['true']\ncode: [none.py]\n", "3:8: code[0]: "),
    "two-jobs": ("[{name: x, command: ['true']}, {name: y, command: ['true']}]", "holds 2 jobs"),
}


@pytest.mark.parametrize("wrong", JOB_FILES)
def test_a_bad_job_file(rig: Rig, wrong: str) -> None:
    """One line that says what and where, no report, and nothing has been made."""
    text, says = JOB_FILES[wrong]
    path = rig.root / "job.yaml"
    path.write_text(text)
    ended = rig.pilot("run", "--job", path, "--output", rig.root / "out", "--runtime", "bare", "--format", "json")
    assert ended.code == 65
    assert ended.out == ""
    assert len(ended.said) == 1
    assert ended.said[0].startswith(f"pilot: {path}:")
    assert says in ended.said[0]
    assert not (rig.root / "out").exists()
    assert ended.seconds < 10


def test_a_job_file_that_is_not_there(rig: Rig) -> None:
    ended = rig.pilot("run", "--job", "none.yaml", "--output", "out")
    assert (ended.code, ended.out, ended.err) == (
        65,
        "",
        "pilot: none.yaml: cannot be read: No such file or directory\n",
    )


# --- images ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """A store of the test's own, with both forms of the tiny image in it."""

    folder: Path
    form: str

    @property
    def path(self) -> Path:
        return next(self.folder.glob(f"test-tiny-*.{'sif' if self.form == 'sif' else 'dir'}"))

    @property
    def file(self) -> Path:
        """The SIF, or one program in the directory."""
        if self.form == "sif":
            return self.path
        return next(each for each in sorted(self.path.glob("usr/lib/python3*/*.py")) if each.stat().st_size > 100)

    def flip(self) -> None:
        """One bit, in the middle, with every time that a user can set put back."""
        seen, middle = self.file.stat(), self.file.stat().st_size // 2
        with self.file.open("r+b") as file:
            file.seek(middle)
            byte = file.read(1)[0]
            file.seek(middle)
            file.write(bytes([byte ^ 1]))
        os.utime(self.file, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    def cut(self) -> None:
        os.truncate(self.file, self.file.stat().st_size // 2)

    def remove(self) -> None:
        self.path.with_suffix(".json").unlink()
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink()


@pytest.fixture(params=["directory", "sif"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Images:
    suffix = "sif" if request.param == "sif" else "dir"
    source = next((apptainer_cache() / "images").glob(f"test-tiny-*.{suffix}"))
    cache = tmp_path / "cache"
    (cache / "images").mkdir(parents=True)
    (cache / "apptainer").symlink_to(apptainer_cache() / "apptainer")
    copies = [each for each in (source, source.with_suffix(".json"), source.with_suffix(".manifest")) if each.exists()]
    subprocess.run(["cp", "-a", "--reflink=auto", *copies, cache / "images"], check=True, timeout=60)
    return Images(cache / "images", request.param)


@pytest.fixture
def own(tmp_path: Path, images: Images) -> Iterator[Rig]:
    """A rig whose cache is its own, so that images in it may be damaged."""
    made = Rig(tmp_path, tmp_path / "cache")
    yield made
    until_nothing_is_left(made)


DAMAGE = {
    "missing": (Images.remove, "image.missing", "no such image"),
    "cut": (Images.cut, "image.corrupt", "cut short"),
    "flipped": (Images.flip, "image.corrupt", "sha256 is"),
}


@pytest.mark.apptainer
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("by", ["name", "path"])
@pytest.mark.parametrize("known", ["fresh", "receipt"])
def test_a_bad_image(own: Rig, images: Images, damage: str, by: str, known: str) -> None:
    harm, code, says = DAMAGE[damage]
    reference = "test-tiny" if by == "name" else str(images.path)
    if known == "receipt":
        well = own.one(own.job("before", "true", image=reference), runtime="apptainer")
        assert (well.code, well.report["verdict"]) == (0, "succeeded"), well.out
    harm(images)
    one = own.one(own.job("after", "true", image=reference), runtime="apptainer")
    assert one.fault == ("node", code)
    if (damage, images.form) != ("cut", "directory"):
        assert says in one.lines[0]
    assert one.report["exit_code"] is None
    assert one.code == 20
    assert one.err == ""


@pytest.mark.apptainer
def test_an_image_that_is_not_the_pinned_one(own: Rig, images: Images) -> None:
    one = own.one(own.job("pinned", "true", image=f"test-tiny@sha256:{'0' * 64}"), runtime="apptainer")
    assert one.fault == ("job", "image.digest")
    assert one.code == 20


@pytest.mark.apptainer
def test_an_unlisted_image_with_one_bit_flipped_is_not_the_pinned_one(own: Rig, images: Images) -> None:
    listed = json.loads(images.path.with_suffix(".json").read_text())["sha256"]
    elsewhere = images.path.rename(own.root / images.path.name)
    moved = Images(own.root, images.form)
    good = own.one(own.job("good", "true", image=f"{elsewhere}@sha256:{listed}"), runtime="apptainer")
    assert good.report["verdict"] == "succeeded", good.out
    moved.flip()
    bad = own.one(own.job("bad", "true", image=f"{elsewhere}@sha256:{listed}"), runtime="apptainer")
    assert bad.report["fault"]["code"] in ("image.corrupt", "image.digest")
    assert "sha256 is" in bad.lines[0]


# --- inputs ----------------------------------------------------------------------------------------------------------

INPUTS = {
    "missing": ({"url": "file://{}/none.root"}, "stage-in.missing", "No such file"),
    "a-folder": ({"url": "file://{}"}, "stage-in.missing", "directory"),
    "truncated": ({"url": "file://{}/data.bin", "size": 2000}, "stage-in.truncated", "1000 bytes, expected 2000"),
    "too-long": ({"url": "file://{}/data.bin", "size": 500}, "stage-in.checksum", "1000 bytes, expected 500"),
    "adler32": ({"url": "file://{}/data.bin", "adler32": "00000001"}, "stage-in.checksum", "expected 00000001"),
    "sha256": ({"url": "file://{}/data.bin", "sha256": "0" * 64}, "stage-in.checksum", "expected 0000"),
}


@pytest.mark.parametrize("wrong", INPUTS)
def test_a_bad_input(rig: Rig, wrong: str) -> None:
    keys, code, says = INPUTS[wrong]
    (rig.root / "data.bin").write_bytes(b"x" * 1000)
    given = {**keys, "url": str(keys["url"]).format(rig.root), "as": "data.bin"}
    one = rig.one(rig.job(wrong, "touch", "ran", inputs=[given], **outputs("ran")))
    assert one.fault == ("input", code)
    assert says in one.lines[0]
    assert "whose: input" in one.lines[0]
    assert one.report["exit_code"] is None
    assert one.report["logs"]["stdout"] == ""
    assert one.code == 20
    assert one.err == ""


# --- disk ------------------------------------------------------------------------------------------------------------

ON_A_SMALL_DISK = 'mount -t tmpfs -o size=12m none "$1" && shift && exec "$@"'


def small_disk(folder: Path) -> list[str]:
    """A prefix that runs a command with a disk of 12 MiB there, in a mount namespace of its own."""
    return ["unshare", "-rm", "--propagation", "private", "sh", "-c", ON_A_SMALL_DISK, "small-disk", str(folder)]


@pytest.mark.parametrize("where", ["scratch", "state"])
def test_a_disk_that_is_really_full(rig: Rig, where: str) -> None:
    """With the sandboxes alone on the full disk, and with journal and log there too, as it is by default."""
    full = rig.root / "full"
    full.mkdir()
    bad = rig.job(
        "fills", "sh", "-c", "python3 fill_disk.py . 100", zoo=("fill_disk.py",), attempts=1, **limits(cpus=2)
    )
    good = rig.job("next", "sh", "-c", "echo fine > out.txt", **limits(cpus=2), **outputs("out.txt"))
    fills, following = rig.queue(bad, good)
    places = {"PILOT_SCRATCH": str(full)} if where == "scratch" else {"PILOT_STATE": str(full)}
    flags = ("--queue", rig.url, "--runtime", "bare", "--format", "json", "--idle-exit", "3s")
    ended = rig.pilot(
        "run", *flags, prefix=small_disk(full), **{"PILOT_STATE": str(rig.root / "state" / "x"), **places}
    )
    assert ended.code == 0, ended.err
    # The next job may come while the disk is still being emptied: that is the node's fault, and it is tried again.
    by_job = {each["job_id"]: each for each in ended.objects()[:-1]}
    fault = by_job[fills]["fault"]
    assert (fault["party"], fault["code"]) == ("payload", "payload.disk")
    assert by_job[following]["verdict"] == "succeeded"
    assert by_job[following]["outputs"][0]["bytes"] == 5


# --- output ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_output_is_capped_and_its_head_and_tail_are_kept(rig: Rig) -> None:
    one = rig.one(rig.job("flood", "python3", "flood.py", "2", "200", zoo=("flood.py",)))
    assert one.report["verdict"] == "succeeded", one.out
    stdout = one.log("stdout")
    assert len(stdout) < 11 * MIB
    assert stdout.startswith(b"000000000000000 xxx")
    assert stdout.splitlines()[-1].startswith(b"last line of stdout: ")
    assert len(one.log("stderr")) < 11 * MIB


def test_rude_output_reaches_neither_the_terminal_nor_the_log(rig: Rig) -> None:
    one = rig.one(rig.job("rude", "sh", "-c", "python3 rude_output.py; exit 3", zoo=("rude_output.py",)))
    assert one.fault == ("payload", "payload.exit")
    log = (one.state / "pilot.log").read_text() + one.log("pilot").decode()
    for text in (one.out, one.err, log, json.dumps(one.report)):
        assert not [each for each in text if not each.isprintable() and each != "\n"]
    assert b"\x1b[31mred" in one.log("stdout")  # the user's output is the user's


# --- daemons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["bare", pytest.param("test-tiny", marks=pytest.mark.apptainer)])
def test_a_daemon_left_behind_is_ended_and_the_job_is_judged_by_its_own_end(rig: Rig, image: str) -> None:
    contained = image != "bare"
    keys = {"image": image} if contained else {}
    job = rig.job("daemon", "python3", "daemon.py", "600", zoo=("daemon.py",), **outputs("daemon.pid"), **keys)
    one = rig.one(job, runtime="apptainer" if contained else "bare")
    assert one.report["verdict"] == "succeeded", one.out
    assert one.code == 0
    assert one.seconds < 30
    if not contained:
        assert not alive(int((one.output / "daemon.pid").read_text()))


# --- the pilot goes on -----------------------------------------------------------------------------------------------


def test_one_pilot_lives_through_all_of_it(rig: Rig) -> None:
    """Every bad payload of the table, one after another and two at a time, then a good job: one pilot, no restart."""
    jobs = [rig.job(each.name, *each.command, zoo=each.zoo, **{"attempts": 1, **each.keys}) for each in PAYLOADS]
    ids = rig.queue(*jobs, rig.job("good", "sh", "-c", "echo fine > out.txt", **outputs("out.txt")))
    ended = rig.serve("--max-jobs", str(len(ids)))
    assert ended.code == 0, ended.err
    assert ended.err == ""
    *reports, last = ended.objects()
    by_job = {each["job_id"]: each for each in reports}
    for case, job_id in zip(PAYLOADS, ids, strict=False):
        check(case, by_job[job_id])
    assert by_job[ids[-1]]["verdict"] == "succeeded"
    assert last["pilot"]["verdicts"] == {"failed": len(PAYLOADS), "succeeded": 1}
    assert len(rig.reports(rig.root / "queue.db")) == len(ids)
