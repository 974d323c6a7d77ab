"""probe, doctor, config, explain and schema as a user meets them: what is printed, and the exit code."""

import json
from pathlib import Path

import pytest

from pilot.cli.main import run
from pilot.model.faults import Code


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without files of their own, on a node without containers: quick, and the same everywhere."""
    for name, value in {
        "XDG_CONFIG_HOME": "c",
        "XDG_STATE_HOME": "s",
        "PILOT_CACHE": "k",
        "PILOT_SCRATCH": "t",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("PILOT_RUNTIME", "bare")
    for name in ("PILOT_QUEUE", "PILOT_CONFIG", "_CONDOR_MACHINE_AD", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_probe_prints_node_and_slot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_CPUS", "1")
    monkeypatch.setenv("PILOT_MEMORY", "100MiB")
    code, out, err = said(capsys, "probe", "--format", "json")
    found = json.loads(out)
    assert (code, err, sorted(found)) == (0, "", ["node", "slot"])
    for part in found.values():
        assert {"cpus", "memory_bytes", "scratch_bytes", "arch", "microarch", "accelerators"} <= set(part)
    assert (found["slot"]["cpus"], found["slot"]["memory_bytes"]) == (1, 100 << 20)
    assert found["slot"]["limited_by"]["memory_bytes"] == "config:memory"


def test_probe_as_text_and_classad(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_LABELS", 'Site=a"b,Rack=7')
    assert "limited by" in said(capsys, "probe")[1]
    lines = said(capsys, "probe", "--format", "classad")[1].splitlines()
    assert {'Site = "a\\"b"', 'OpSys = "LINUX"', "GPUs = 0", "Images = {}"} <= set(lines)
    import classad2

    assert classad2.parseOne("\n".join(lines))["Site"] == 'a"b'


def test_doctor_has_a_line_per_check(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "doctor", "--format", "json")
    found = {each["check"]: each for each in json.loads(out)}
    assert code == 0
    assert set(next(iter(found.values()))) == {"check", "status", "code", "detail", "remedy"}
    assert {each["status"] for each in found.values()} <= {"ok", "warn", "skip"}
    assert {"python", "user-namespaces", "fuse", "scratch", "state", "clock", "slot", "queue"} <= set(found)
    lines = said(capsys, "doctor")[1].splitlines()
    assert len(lines) == len(found)


def test_doctor_says_what_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = said(capsys, "doctor", "--queue", f"sqlite:{tmp_path}/none.db", "--format", "json")
    failed = [each for each in json.loads(out) if each["status"] == "fail"]
    assert (code, [each["check"] for each in failed]) == (69, ["queue"])
    assert failed[0]["code"] in set(Code)
    assert failed[0]["remedy"]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("cpus: 2\n", 0, "ok"),
        ("cpsu: 2\n", 78, "f.yaml:1:1: unknown key 'cpsu'; did you mean 'cpus'?"),
        ("name: a\ncommand: [x]\n", 0, "ok"),
        ("name: a\ncomand: [x]\nneeds: {}\n", 65, "f.yaml:2:1: unknown key 'comand'; did you mean 'command'?"),
        ("name: a\ncommand: &x [x]\n", 65, "f.yaml:2:10: anchors (&) and aliases (*) are not accepted"),
        ("name: a\ncommand: [x]\nrequirements: TARGET.Cpus >=\n", 65, "f.yaml:3:15: requirements: not a ClassAd"),
        ("name: a\ncommand: [x]\noutputs: [{name: ../x}]\n", 65, "f.yaml:3:18: outputs[0].name: '../x' leads out"),
    ],
)
def test_config_check(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, code: int, line: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    found, out, err = said(capsys, "config", "check", str(path))
    assert (found, err) == (code, "")
    assert line in out
    rows = json.loads(said(capsys, "config", "check", str(path), "--format", "json")[1])
    assert bool(rows) == bool(code)
    assert all({"source", "line", "column", "message"} <= set(each) for each in rows)


def test_config_show_names_origins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("grace: 1m\n")
    rows = json.loads(said(capsys, "config", "show", str(path), "--format", "json")[1])
    assert rows["grace"] == {"value": 60.0, "origin": f"{path}:1:8"}
    assert rows["runtime"] == {"value": "bare", "origin": "PILOT_RUNTIME"}
    assert rows["log_level"]["origin"] == "built-in"


def test_wrong_settings_end_every_command_alike(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOT_CPUS", "many")
    monkeypatch.setenv("PILOT_MEMORY", "2G")
    code, out, err = said(capsys, "probe")
    assert (code, out) == (78, "")
    assert err.splitlines() == [
        "pilot: PILOT_CPUS: expected a whole number, found text 'many'",
        "pilot: PILOT_MEMORY: '2G': unknown unit 'G'; did you mean GiB (powers of 1024) or GB (powers of 1000)?",
    ]


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "explain", "payload.memory", "--format", "json")[1])
    assert (found["party"], found["panda"], found["charged"]) == ("payload", 1212, True)
    assert {each["code"] for each in json.loads(said(capsys, "explain", "--format", "json")[1])} == set(Code)
    assert "payload.memory" in said(capsys, "explain", "1212")[1]
    text = said(capsys, "explain", "1338")[1]
    assert text.startswith("storage.denied")
    assert "1383 (while storing)" in text
    code, _, err = said(capsys, "explain", "payload.memroy")
    assert (code, err.count("\n")) == (64, 1)
    assert "unknown fault code 'payload.memroy'; did you mean 'payload.memory'?" in err
    assert said(capsys, "explain", "99")[0] == 64


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said(capsys, "schema", "job")[1])["$id"] == "urn:ml-grid-pilot:job-1.0"
    assert "report" in json.loads(said(capsys, "schema", "--format", "json")[1])
    assert said(capsys, "schema", "jbo")[0] == 64


@pytest.mark.parametrize("command", ["probe", "doctor", "config", "explain", "schema"])
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "Example" in said(capsys, command, "--help")[1]
