"""PanDA's user scripts, translated: the commands are run for real, in a folder like a job's working directory."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pilot.wire.grants import grant_of
from pilot.wire.points import Point
from pilot.wire.transforms import TRANSFORMS
from tests.unit.wire.recorded import SITE, definition


def refusal(name: str, **changes: object) -> str:
    found = grant_of(definition(name, **changes), SITE, Point("8017-6003-0-12-5", "12"))
    assert found.refusal is not None
    return found.refusal.detail


def run(command: tuple[str, ...], work: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(work)}
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False)


def staged(work: Path, files: dict[str, str]) -> None:
    work.mkdir(exist_ok=True)
    for name, text in files.items():
        (work / name).write_text(text)
        (work / name).chmod(0o444)


def sandbox(work: Path, name: str, files: dict[str, str], mode: str = "w:gz") -> None:
    source = work.parent / "source"
    for each, text in files.items():
        (source / each).parent.mkdir(parents=True, exist_ok=True)
        (source / each).write_text(text)
    with tarfile.open(work / name, mode) as archive:  # type: ignore[call-overload]
        archive.add(source, ".")


# --- runGen ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w:gz", "w:"])
def test_a_prun_job_runs(tmp_path: Path, mode: str) -> None:
    work = tmp_path / "work"
    staged(work, {"data._000001.npz": "one", "data._000002.npz": "two", "calib.v7.json": "{}"})
    script = "import sys\nopen('seen','w').write(' '.join(sys.argv[1:]))\nimport os\nos.mkdir('out')\n"
    script += "open('out/model.pt','w').write(open('data._000001.npz').read())\nopen('logs1.txt','w').write('x')\n"
    sandbox(work, "sources.7b9c.tar.gz", {"src/train.py": script}, mode)
    spec = grant_of(definition("rungen"), SITE).spec
    done = run(tuple(each.replace("python train.py", "python3 train.py") for each in spec.command), work)
    assert (done.returncode, done.stdout, done.stderr) == (0, "it's done\n", "")
    assert (work / "user.ada.8017._000007.model.pt").read_text() == "one"
    with tarfile.open(work / "user.ada.8017._000007.logsXYZ.txt.tgz") as archive:
        assert archive.getnames() == ["logs1.txt"]
    said = (work / "workDir/src/seen").read_text()
    assert said == "--data data._000001.npz,data._000002.npz --calib calib.v7.json"
    assert (work / "workDir/src/input.txt").read_text() == "data._000001.npz,data._000002.npz"


def simple(command: str, more: str = "", **changes: object) -> tuple[str, ...]:
    quoted = "".join(f"%{each:02X}" for each in command.encode())
    found = grant_of(definition("rungen", jobPars=f'-j "" -r . -p "{quoted}" {more}', **changes), SITE)
    assert found.refusal is None, found.refusal
    return found.spec.command


@pytest.mark.parametrize(
    ("command", "code"), [("exit 3", 3), ("true", 0), ("sh -c 'kill -9 $$'", 137), ("no-such-program", 127), ("'", 2)]
)
def test_the_end_is_the_commands_own(tmp_path: Path, command: str, code: int) -> None:
    assert run(simple(command), tmp_path).returncode == code


def test_outputs_are_kept_of_a_command_that_failed(tmp_path: Path) -> None:
    done = run(simple("echo a > a.txt; exit 4", "-o \"{'a.txt': 'user.a.txt', 'b.txt': 'user.b.txt'}\""), tmp_path)
    assert done.returncode == 4
    assert (tmp_path / "user.a.txt").read_text() == "a\n"


def test_a_broken_sandbox_is_told(tmp_path: Path) -> None:
    staged(tmp_path, {"s.tar.gz": "no archive"})
    done = run(simple("true", "-a s.tar.gz --sourceURL https://h:25443"), tmp_path)
    assert done.returncode == 66
    assert "the sandbox s.tar.gz cannot be unpacked" in done.stderr


def test_a_script_without_the_mode_to_run_is_run(tmp_path: Path) -> None:
    sandbox_work = tmp_path / "work"
    sandbox_work.mkdir()
    sandbox(sandbox_work, "s.tar.gz", {"run.sh": "#!/bin/sh\necho ran $1\n"})
    done = run(simple("run.sh x", "-a s.tar.gz --sourceURL https://h:25443"), sandbox_work)
    assert (done.returncode, done.stdout) == (0, "ran x\n")


def test_a_library_takes_the_place_of_the_sandbox(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    sandbox(work, "data._000001.npz", {"a.sh": "echo built"})
    command = simple("sh a.sh", "-l data._000001.npz -a s.tar.gz --sourceURL https://h:25443")
    assert run(command, work).stdout == "built\n"


def test_real_names_of_outputs(tmp_path: Path) -> None:
    command = simple("echo a > out.txt", "-o \"{'out.txt': 'user.out.txt'}\" --execWithRealFileNames")
    assert run(command, tmp_path).returncode == 0
    assert (tmp_path / "user.out.txt").read_text() == "a\n"


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    staged(tmp_path, {"data._000001.npz": ""})
    inputs = '-i "[\'data._000001.npz\']" --writeInputToTxt "IN:a b;touch x"'
    run(simple("echo '$(touch y)' %IN", inputs), tmp_path)
    assert sorted(each.name for each in tmp_path.rglob("*")) == [
        "a b;touch x",
        "data._000001.npz",
        "data._000001.npz",
        "workDir",
    ]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("-p x --useAthenaPackages", "option --useAthenaPackages not recognized: this pilot does not do that"),
        ("-p x --rootVer 6.32", "option --rootVer not recognized"),
        ("-p x --dbrFile a", "option --dbrFile not recognized"),
        ("-p x --fileToSave a:b", "option --fileToSave not recognized"),
        ("-p x -z", "option -z not recognized"),
        ("-p", "option -p requires argument"),
        ("-p x y", "'y' is no option"),
        ("-r .", "there is no command"),
        ("-p %FF", "no text once its percent signs are read"),
        ("-p x -i \"['other.root']\"", "'other.root' is not among the job's inputs"),
        ("-p x -i 7", "no list and no mapping"),
        ("-p x -l lib.tgz", "the library 'lib.tgz' is not among the job's inputs"),
        ("-p x -r ../up", "'../up' is no path below"),
        ("-p x -r /abs", "is no path below"),
        ("-p x -r control", "is taken by the contract"),
        ("-p x -o \"{'/etc/passwd': 'a'}\"", "no name and no pattern below"),
        ("-p x -o \"{'a;b': 'a'}\"", "no name and no pattern below"),
        ("-p x -o \"{'a': 'b/../c'}\"", "has other signs than"),
        ("-p x -a s.tar.gz --sourceURL http://h", "a sandbox is fetched over https only"),
        ("-p x -a s.tar.gz --sourceURL https://u:p@h", "a sandbox is fetched over https only"),
        ("-p x -a ../s.tar.gz --sourceURL https://h", "is no name of a sandbox"),
        ("-p x --writeInputToTxt OUT:a", "is no STREAM:FILE of this job"),
        ("-p " + "x" * 140_000, "the command is too long"),
    ],
)
def test_what_is_declined(parameters: str, said: str) -> None:
    assert said in refusal("rungen", jobPars=parameters)


# --- runcontainer ----------------------------------------------------------------------------------------------------


def test_a_container_job_runs(tmp_path: Path) -> None:
    work = tmp_path / "work"
    staged(work, {"a.root": "abc"})
    sandbox(work, "sources.11.tar.gz", {"fill.sh": "mkdir -p deep && cat $1 > deep/hist.root"})
    spec = grant_of(definition("runcontainer"), SITE).spec
    assert spec.image == "docker://atlas/analysisbase:21.2.39"
    assert [each.url for each in spec.inputs][1:] == ["https://panda.example.org:25443/cache/sources.11.tar.gz"]
    done = run(spec.command, work)
    assert (done.returncode, done.stderr) == (0, "")
    assert (work / "user.ada.9.hist.root").read_text() == "abc"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--datadir /x", "option --datadir not recognized"),
        ("--workdir /x", "option --workdir not recognized"),
        ("--containerX509", "option --containerX509 not recognized"),
        ("-p cat%20/data/a", "the command names /data"),
        ("--containerImage http://x/y", "none that can be fetched"),
    ],
)
def test_what_a_container_job_is_declined_for(more: str, said: str) -> None:
    assert said in refusal("runcontainer", jobPars=f"{definition('runcontainer')['jobPars']} {more}")


def test_a_container_job_needs_an_image() -> None:
    assert "there is no --containerImage" in refusal("runcontainer", jobPars="-p x")


PACKED = "user.ada.9.hists.tgz"


@pytest.mark.parametrize("name", ["rungen", "runcontainer"])
def test_a_pattern_that_matches_nothing_makes_no_archive(tmp_path: Path, name: str) -> None:
    done = collected(tmp_path, name, "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / PACKED).exists()


def test_a_pattern_is_looked_for_in_all_folders_of_a_container_job(tmp_path: Path) -> None:
    made = "mkdir -p a/b .pilot control; echo 1 >'a/b/h 1.root'; echo 2 >h2.root; echo 3 >control/h3.root"
    assert collected(tmp_path, "runcontainer", made).returncode == 0
    with tarfile.open(tmp_path / PACKED) as archive:
        assert sorted(archive.getnames()) == ["./a/b/h 1.root", "./h2.root"]


def test_a_pattern_of_prun_is_looked_for_where_it_says(tmp_path: Path) -> None:
    collected(tmp_path, "rungen", "mkdir a; echo 1 >a/h.root")
    assert not (tmp_path / PACKED).exists()


@pytest.mark.parametrize("name", ["rungen", "runcontainer"])
@pytest.mark.parametrize(("end", "code"), [("", 65), ("; exit 7", 7)])
def test_an_archive_that_cannot_be_made_whole_is_none(tmp_path: Path, name: str, end: str, code: int) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "tar").write_text("#!/bin/sh\necho half >$2\nexit 2\n")
    (broken / "tar").chmod(0o755)
    done = collected(tmp_path / "work", name, f"echo 1 >h.root{end}", f"{broken}:{os.environ['PATH']}")
    assert done.returncode == code
    assert not (tmp_path / "work" / PACKED).exists()


def collected(work: Path, name: str, command: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """A command that makes files, and the output that is all files of a pattern."""
    quoted = "".join(f"%{each:02X}" for each in command.encode())
    image = "--containerImage x" if name == "runcontainer" else "-j '' -r ."
    found = grant_of(definition(name, jobPars=f"""{image} -o "{{'h*.root': '{PACKED}'}}" -p "{quoted}" """), SITE)
    assert found.refusal is None, found.refusal
    work.mkdir(exist_ok=True)
    environment = {"PATH": path or os.environ["PATH"]}
    return subprocess.run(
        found.spec.command, cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


# --- runHPO ----------------------------------------------------------------------------------------------------------

POINT = Point("8017-6003-0-12-5", "12", '{"lr": 0.1, "note": "it\'s"}')
EVALUATE = "import json\np=json.load(open('input.json'))\nopen('output.json','w').write(json.dumps(%s, indent=1))\n"


def evaluated(work: Path, output: str, point: Point = POINT) -> subprocess.CompletedProcess[str]:
    work.mkdir()
    sandbox(work, "jobO.1b2c.tar", {"evaluate.py": EVALUATE % output})
    found = grant_of(definition("runhpo"), SITE, point)
    assert found.refusal is None, found.refusal
    assert found.spec.image == "docker://ada/hpo:1"
    return run(tuple(each.replace("python evaluate", "python3 evaluate") for each in found.spec.command), work)


def test_a_point_is_evaluated(tmp_path: Path) -> None:
    done = evaluated(tmp_path / "work", "{'status': 0, 'loss': p['lr'] * -2.5e-3, 'message': p['note']}")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "work/result.json").read_text())
    assert result == {"contract": "1.0", "status": "succeeded", "message": "loss=-0.00025"}


@pytest.mark.parametrize("output", ["{'loss': None}", "{'status': 5, 'loss': 0.5}", "{}", "[]", "{'loss': 'low'}"])
def test_an_evaluation_without_a_loss_has_failed(tmp_path: Path, output: str) -> None:
    done = evaluated(tmp_path / "work", output)
    assert done.returncode == 65
    assert "there is no loss in output.json" in done.stderr
    assert not (tmp_path / "work/result.json").exists()


def test_without_a_point_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert grant_of(definition("runhpo"), SITE).spec.command == ("true",)


def test_every_transform_has_a_recorded_job() -> None:
    urls = [str(definition(each)["transformation"]) for each in ("rungen", "runcontainer", "runhpo")]
    assert {each.rpartition("/")[2].partition("-")[0] for each in urls} == set(TRANSFORMS)
