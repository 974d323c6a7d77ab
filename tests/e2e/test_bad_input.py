"""What bad input gets: one clear line, whose fault it is, nothing lost, nothing left, and the next job runs."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.piloted import Rig

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
    Case("bad-result", ("python3", "lie_in_result.py", "nan"), ("payload", "payload.result"), "result.json",
         ("lie_in_result.py",), exit_code=0),
    Case("walltime", ("sh", "sleep_forever.sh"), ("payload", "payload.walltime"), "1 s", ("sleep_forever.sh",),
         limits(walltime="1s")),
    Case("ignores-term", ("python3", "ignore_term.py"), ("payload", "payload.walltime"), "1 s", ("ignore_term.py",),
         limits(walltime="1s"), signal=9),
    Case("disk", ("sh", "-c", "python3 fill_disk.py . 100 && sleep 600"), ("payload", "payload.disk"), "bytes in the sandbox",
         ("fill_disk.py",), limits(scratch="20MiB")),
    Case("invalid", ("sh", "-c", "echo 1 > out.txt"), ("payload", "payload.invalid"), "validate step: exit code 3",
         keys={**outputs("out.txt"), "validate": ["sh", "-c", "echo the model is wrong >&2; exit 3"]}, exit_code=0),
]  # fmt: skip


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
