"""Job files: the page's own example, every key's refusals with their place, and what becomes of code and images."""

import hashlib
from pathlib import Path

import pytest

from pilot.config.jobfile import JobDocument, load_jobs
from pilot.config.problems import ConfigProblems, JobProblems
from pilot.model.files import Input, Mode, Output
from pilot.model.job import GpuNeeds, JobSpec, Needs
from pilot.model.plain import from_plain, to_plain

GIB = 1 << 30
WHOLE = """\
name: dilepton-classifier
id: my-own-id
image: images/ml-base.sif@sha256:{digest}
code: [train.py, lib/]
command: [python3, train.py, --epochs, "3"]
environment: {{OMP_NUM_THREADS: "2"}}
needs:
  cpus: 2
  memory: 2GiB
  scratch: 5GB
  walltime: 1h30m
  gpus: {{count: 1, memory: 20GiB, capability: ">=8.0", cuda: ">=12.0, <14"}}
requirements: 'TARGET.Microarch >= "x86_64-v3"'
inputs:
  - {{url: "root://se.example.org//data/ntuple.root", as: in/ntuple.root, adler32: 1A2B3C4D, mode: stage}}
  - {{url: "file:///data/a%20b/x.h5", adler32: 01234567, size: 10}}
  - {{url: "file:///data/y.h5", adler32: 1e345678}}
outputs: [{{name: model.onnx, to: "davs://se.example.org/out/"}}, {{name: "metrics/*", optional: true}}]
validate: [python3, check_model.py]
checkpoint: {{interval: 5m}}
network: loopback
kind: toys
attempts: 5
max_interruptions: 7
priority: -3
after: [other-job]
""".format(digest="ab" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "model.py").write_text("M = 1\n")
    (tmp_path / "train.py").write_text("print(1)\n")
    return tmp_path


def written(folder: Path, text: str, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def one(folder: Path, text: str) -> JobSpec:
    (found,) = load_jobs(written(folder, text))
    return found.spec


def lines(folder: Path, text: str, **options: object) -> list[str]:
    with pytest.raises(JobProblems) as found:
        load_jobs(written(folder, text), **options)  # type: ignore[arg-type]
    return [line.removeprefix(f"{folder}/") for line in found.value.lines()]


def test_every_key_of_the_page_is_read(folder: Path) -> None:
    (found,) = load_jobs(written(folder, WHOLE))
    spec = found.spec
    assert found.job_id == "my-own-id"
    assert found.code is not None
    assert spec.code is not None
    assert (spec.code.names, spec.code.sha256) == (("lib", "train.py"), hashlib.sha256(found.code).hexdigest())
    assert (spec.name, spec.image, spec.image_sha256) == (
        "dilepton-classifier",
        str(folder / "images/ml-base.sif"),
        "ab" * 32,
    )
    assert spec.command == ("python3", "train.py", "--epochs", "3")
    assert spec.environment == (("OMP_NUM_THREADS", "2"),)
    assert spec.needs == (Needs(2, 2 * GIB, 5 * 10**9, 5400, GpuNeeds(1, 20 * GIB, ">=8.0", ">=12.0, <14")),)
    assert spec.requirements == 'TARGET.Microarch >= "x86_64-v3"'
    assert spec.inputs == (
        Input("root://se.example.org//data/ntuple.root", "in/ntuple.root", "1a2b3c4d", "", None, Mode.STAGE),
        Input("file:///data/a%20b/x.h5", "x.h5", "01234567", "", 10, Mode.STAGE),
        Input("file:///data/y.h5", "y.h5", "1e345678"),
    )
    assert spec.outputs == (Output("model.onnx", "davs://se.example.org/out/"), Output("metrics/*", "", True))
    assert (spec.validate, spec.checkpoint_interval) == (("python3", "check_model.py"), 300)
    assert (spec.network, spec.kind, spec.attempts, spec.max_interruptions, spec.priority) == (
        "loopback", "toys", 5, 7, -3,
    )  # fmt: skip
    assert spec.after == ("other-job",)
    assert from_plain(JobSpec, to_plain(spec)) == spec


def test_defaults_are_the_models_own(folder: Path) -> None:
    (found,) = load_jobs(written(folder, "{name: a, command: [x]}"))
    assert found == JobDocument(JobSpec("a", ("x",)))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{name: a, command: [x]}\n---\n{name: b, command: [x]}\n", ["a", "b"]),
        ("- {name: a, command: [x]}\n- {name: b, command: [x]}\n", ["a", "b"]),
        ('{"name": "a", "command": ["x"]}', ["a"]),
        ('[{"name": "a", "command": ["\\ud83d\\ude00"]}]', ["a"]),
    ],
)
def test_several_jobs_and_json(folder: Path, text: str, names: list[str]) -> None:
    assert [each.spec.name for each in load_jobs(written(folder, text, "jobs.json"))] == names


def test_variants_of_needs(folder: Path) -> None:
    spec = one(folder, "{name: a, command: [x], needs: [{gpus: {}}, {cpus: 8, walltime: 90}]}")
    assert spec.needs == (Needs(gpus=GpuNeeds(1)), Needs(cpus=8, walltime_seconds=90))


@pytest.mark.parametrize(
    ("image", "reference", "pin"),
    [
        ("ml-base", "ml-base", ""),
        ("ml-base@sha256:" + "AB" * 32, "ml-base", "ab" * 32),
        ("./a.sif", "{folder}/a.sif", ""),
        ("a.sif", "{folder}/a.sif", ""),
        ("../a/./b", "{parent}/a/b", ""),
        ("/cvmfs/unpacked.example.org/a:1", None, ""),
        ("/cvmfs/x.org/dir", "/cvmfs/x.org/dir", ""),
        ("docker://python:3.12@sha256:" + "ab" * 32, "docker://python:3.12@sha256:" + "ab" * 32, ""),
        ("oras://r.example.org/x:1", "oras://r.example.org/x:1", ""),
        ("library://x", None, ""),
        ("a b", None, ""),
        ("ml-base@sha256:12", None, ""),
        ("ml-base@md5:12", None, ""),
        ("-rf", None, ""),
    ],
)
def test_images(folder: Path, image: str, reference: str | None, pin: str) -> None:
    text = f"{{name: a, command: [x], image: '{image}'}}"
    if reference is None:
        assert "image" in lines(folder, text)[0]
        return
    spec = one(folder, text)
    assert spec.image == reference.format(folder=folder, parent=folder.parent)
    assert spec.image_sha256 == pin


@pytest.mark.parametrize(
    ("addition", "line"),
    [
        ("nmae: x", "3:1: unknown key 'nmae'; did you mean 'name'?"),
        ("Outputs: []", "3:1: unknown key 'Outputs'; did you mean 'outputs'?"),
        ("needs: {cpu: 2}", "3:9: needs: unknown key 'cpu'; did you mean 'cpus'?"),
        ("needs: [{}, {gpus: {cnt: 2}}]", "3:21: needs[1].gpus: unknown key 'cnt'; did you mean 'count'?"),
        ("needs: 3", "3:8: needs: expected a mapping, found the number 3"),
        ("needs: []", "3:8: needs: must not be empty"),
        ("needs: {cpus: 2.5}", "3:15: needs.cpus: expected a whole number, found the number 2.5"),
        ("needs: {cpus: '2'}", "3:15: needs.cpus: expected a whole number, found text '2'"),
        ("needs: {cpus: 0}", "3:15: needs.cpus: must be greater than or equal to 1, found the number 0"),
        ("needs: {cpus: 99999999999999999999}", "3:15: needs.cpus: expected a whole number, found text '9999"),
        ("needs: {memory: 2G}", "3:17: needs.memory: '2G': unknown unit 'G'; did you mean GiB"),
        ("needs: {memory: 2 apples}", "3:17: needs.memory: '2 apples': unknown unit 'apples'; write one of B, KiB"),
        ("needs: {memory: -1}", "3:17: needs.memory: a size cannot be negative"),
        ("needs: {memory: 9999999PB}", "3:17: needs.memory: more than 1 PiB"),
        ("needs: {memory: .inf}", "3:17: needs.memory: '.inf' is no size"),
        ("needs: {walltime: 1x}", "3:19: needs.walltime: '1x' is no duration: write 90s, 30m, 1h30m or whole seconds"),
        ("needs: {walltime: 1:30}", "3:19: needs.walltime: '1:30' is no duration"),
        ("needs: {walltime: 1.5}", "3:19: needs.walltime: expected a duration such as 90s"),
        ("needs: {walltime: 400d}", "3:19: needs.walltime: more than 366 days"),
        ("needs: {gpus: {capability: 8.0}}", "3:28: needs.gpus.capability: expected text, found the number 8.0"),
        ("needs: {gpus: {cuda: recent}}", "3:22: needs.gpus.cuda: 'recent' is no condition on a version"),
        ("environment: {A: 1}", "3:18: environment.A: expected text, found the number 1 (text of digits"),
        ("environment: {PILOT_X: a}", "3:24: environment.PILOT_X: a job cannot set PILOT_X: it belongs to the pilot"),
        ("environment: {LD_PRELOAD: a}", "3:27: environment.LD_PRELOAD: a job cannot set LD_PRELOAD: it would run"),
        ("environment: {APPTAINER_BIND: /}", "3:31: environment.APPTAINER_BIND: a job cannot set APPTAINER_BIND"),
        ("environment: {CUDA_VISIBLE_DEVICES: '0'}", "3:37: environment.CUDA_VISIBLE_DEVICES: a job cannot set"),
        ("environment: {9a: b}", "3:19: environment.9a: '9a' is no name of a variable"),
        ('environment: {A: "\\0"}', "3:18: environment.A: a NUL character cannot be passed"),
        ("inputs: [{as: x}]", "3:10: inputs[0]: the key 'url' is missing"),
        ("inputs: [{url: /data/x}]", "3:16: inputs[0].url: '/data/x' is no URL: local files are written file:///"),
        ("inputs: [{url: 'file://data/x'}]", "3:16: inputs[0].url: 'file://data/x': local files are written file:///"),
        ("inputs: [{url: 'file:///a/../x'}]", "3:16: inputs[0].url: 'file:///a/../x': '..' is not accepted"),
        ("inputs: [{url: 'file:///a/%2e%2e/x'}]", "3:16: inputs[0].url: 'file:///a/%2e%2e/x': '..' is not accepted"),
        ("inputs: [{url: 'file:///a b'}]", "3:16: inputs[0].url: 'file:///a b': spaces and special characters"),
        ("inputs: [{url: 'htps://x/y'}]", "3:16: inputs[0].url: unknown scheme 'htps'; did you mean 'https'?"),
        ("inputs: [{url: 'https:///y'}]", "3:16: inputs[0].url: 'https:///y' names no host"),
        ("inputs: [{url: 'https://u:p@h/y'}]", "3:16: inputs[0].url: a user or password in a URL would be seen"),
        ("inputs: [{url: 'file:///a/'}]", "3:10: inputs[0]: the URL ends in no usable name"),
        ("inputs: [{url: 'file:///a', as: ../x}]", "3:33: inputs[0].as: '../x' leads out of the working directory"),
        ("inputs: [{url: 'file:///a', as: /x}]", "3:33: inputs[0].as: '/x' is absolute"),
        ("inputs: [{url: 'file:///a', as: -x}]", "3:33: inputs[0].as: '-x': use letters"),
        ("inputs: [{url: 'file:///a', as: 'x y'}]", "3:33: inputs[0].as: 'x y': use letters"),
        ("inputs: [{url: 'file:///a', as: \"x\\ny\"}]", "3:33: inputs[0].as: 'x\\ny': use letters"),
        ("inputs: [{url: 'file:///a', as: '\u202ex'}]", "3:33: inputs[0].as: '\\u202ex': use letters"),
        ("inputs: [{url: 'file:///a', as: x*}]", "3:33: inputs[0].as: 'x*': use letters"),
        ("inputs: [{url: 'file:///a', as: control/x}]", "3:33: inputs[0].as: 'control/x' is taken by the contract"),
        ("inputs: [{url: 'file:///a', adler32: 123}]", "3:38: inputs[0].adler32: '123' is no checksum: 8"),
        ("inputs: [{url: 'file:///a', sha256: abc}]", "3:37: inputs[0].sha256: 'abc' is no checksum: 64"),
        ("inputs: [{url: 'file:///a', mode: stag}]", "3:35: inputs[0].mode: text 'stag' is not one of stage, stream"),
        ("inputs: [{url: 'file:///a'}, {url: 'file:///b/a'}]", "3:30: inputs[1]: the name 'a' is taken by inputs[0]"),
        (
            "inputs: [{url: 'file:///a', as: x/y}, {url: 'file:///b', as: x}]",
            "3:39: inputs[1]: the name 'x' is taken by inputs[0]",
        ),
        ("inputs: [{url: 'file:///a'}, {url: 'file:///b', as: a/b}]", "3:30: inputs[1]: the name 'a/b' is taken by"),
        ("inputs: [{url: 'file:///a'}]\noutputs: [{name: a}]", "4:11: outputs[0]: the name 'a' is taken by inputs[0]"),
        ("outputs: [{name: ../x}]", "3:18: outputs[0].name: '../x' leads out of the working directory"),
        ("outputs: [{name: a/../../x}]", "3:18: outputs[0].name: 'a/../../x' leads out of the working directory"),
        ("outputs: [{name: /x}]", "3:18: outputs[0].name: '/x' is absolute"),
        ("outputs: [{name: ''}]", "3:18: outputs[0].name: '': use letters"),
        ("outputs: [{name: 'a[b'}]", "3:18: outputs[0].name: 'a[b': a bracket of the pattern is not closed"),
        ("outputs: [{name: a}, {name: a}]", "3:22: outputs[1]: 'a' is named twice"),
        ("outputs: [{name: a, optional: yes}]", "3:31: outputs[0].optional: expected true or false, found text 'yes'"),
        ("outputs: [model.onnx]", "3:11: outputs[0]: expected a mapping, found text 'model.onnx'"),
        ("validate: []", "3:11: validate: must not be empty"),
        ("checkpoint: {interval: 0}", "3:24: checkpoint.interval: must be greater than or equal to 1"),
        ("network: full", "3:10: network: text 'full' is not one of none, outbound or loopback"),
        ("kind: bath", "3:7: kind: text 'bath' is not one of batch, service or toys"),
        ("attempts: 0", "3:11: attempts: must be greater than or equal to 1"),
        ("priority: 99999999", "3:11: priority: must be less than or equal to 1000000"),
        ("after: [a]", "3:8: after: a job cannot wait for itself"),
        ("after: ['../x']", "3:9: after[0]: '../x': use letters, digits and ._+-"),
        ("id: a/b", "3:5: id: 'a/b': use letters, digits and ._+-"),
        ("id:", "3:4: id: "),
        ("code: [nothere.py]", "3:8: code[0]: 'nothere.py': No such file or directory"),
        ("code: [../x]", "3:8: code[0]: '../x' leads out of the job file's directory"),
        ("code: [/etc/passwd]", "3:8: code[0]: '/etc/passwd' leads out of the job file's directory"),
        ("code: [train.py, a, b]", "3:18: code[1]: 'a': No such file"),
        ("code: train.py", "3:7: code: expected a list, found text 'train.py'"),
        (
            "code: [train.py]\noutputs: [{name: train.py}]",
            "4:11: outputs[0]: the name 'train.py' is taken by the job's",
        ),
    ],
)
def test_each_mistake_has_its_line(folder: Path, addition: str, line: str) -> None:
    if addition == "id:":
        assert one(folder, f"name: a\ncommand: [x]\n{addition}\n").name == "a"  # an empty value is no value
        return
    found = lines(folder, f"name: a\ncommand: [x]\n{addition}\n")
    assert found[0].startswith(f"job.yaml:{line}"), found
    assert len(found) == 1 or addition == "code: [train.py, a, b]"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a", "job.yaml:1:1: the key 'command' is missing"),
        ("command: [x]", "job.yaml:1:1: the key 'name' is missing"),
        ("name: a b\ncommand: [x]", "job.yaml:1:7: name: 'a b': use letters"),
        ("name: a\ncommand: []", "job.yaml:2:10: command: must not be empty"),
        ("name: a\ncommand: x", "job.yaml:2:10: command: expected a list, found text 'x'"),
        ("name: a\ncommand: [x, 3]", "job.yaml:2:14: command[1]: expected text, found the number 3 (text of digits"),
        ('name: a\ncommand: ["x\\0"]', "job.yaml:2:11: command[0]: a NUL character cannot be passed to a program"),
        ("[1]", "job.yaml:1:2: expected a mapping, found the number 1"),
        ("hello", "job.yaml:1:1: expected a mapping, found text 'hello'"),
        ("", "job.yaml: holds no job"),
        ("[]", "job.yaml: holds no job"),
        ("a: &x 1", "job.yaml:1:4: anchors (&) and aliases (*) are not accepted"),
    ],
)
def test_files_that_are_no_job(folder: Path, text: str, line: str) -> None:
    (found,) = lines(folder, text)
    assert found.startswith(line)


def test_every_problem_of_a_file_is_told_at_once_in_order(folder: Path) -> None:
    found = lines(
        folder, "- {nmae: a, command: [1], image: 'a b'}\n- {name: b, command: [x], after: [b], kind: x}\n- 3\n"
    )
    assert [each.split(":")[1] for each in found] == ["1", "1", "1", "1", "2", "3"]


def test_a_long_list_of_problems_is_cut(folder: Path) -> None:
    found = lines(folder, "".join(f"- {{nam{number}: x}}\n" for number in range(100)))
    assert len(found) == 26
    assert found[-1] == "job.yaml: and 275 more problems"


def test_requirements_are_asked_about_where_somebody_can_tell(folder: Path) -> None:
    text = "name: a\ncommand: [x]\nrequirements: 'time() > 0'\n"
    assert one(folder, text).requirements == "time() > 0"
    refusing = lines(folder, text, refusal=lambda expression: f"no {expression}")
    assert refusing == ["job.yaml:3:15: requirements: no time() > 0"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, make: object) -> None:
    make(tmp_path / "job.yaml")  # type: ignore[operator]
    with pytest.raises(ConfigProblems) as found:
        load_jobs(tmp_path / "job.yaml")
    assert len(found.value.lines()) == 1


SWEPT = "name: scan-{lr}\ncommand: [x, '{lr}']\noutputs: [{name: 'model-{lr}.onnx'}, {name: 'plots/p{seed}*'}]\n"


def test_placeholders_are_for_sweeps(folder: Path) -> None:
    found = lines(folder, SWEPT)
    why = "is a placeholder, which only `pilot queue add --sweep` fills"
    assert found == [
        f"job.yaml:1:7: name: {{lr}} {why}",
        f"job.yaml:3:11: outputs[0]: {{lr}} {why}",
        f"job.yaml:3:38: outputs[1]: {{seed}} {why}",
    ]
    (document,) = load_jobs(folder / "job.yaml", sweep=True)
    assert document.spec.name == "scan-{lr}"
    assert [each.name for each in document.spec.outputs] == ["model-{lr}.onnx", "plots/p{seed}*"]


@pytest.mark.parametrize("text", ["name: '{lr}'", "name: a{l r}", "name: a{", "id: a{x}\nname: a", "name: a{}"])
def test_what_is_no_placeholder_is_no_name(folder: Path, text: str) -> None:
    (folder / "job.yaml").write_text(f"{text}\ncommand: [x]\n")
    with pytest.raises(ConfigProblems, match="use letters, digits"):
        load_jobs(folder / "job.yaml", sweep=True)
