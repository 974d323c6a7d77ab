"""Settings: which place wins, where each value came from, and what is said about mistakes."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from pilot.config.problems import ConfigProblems
from pilot.config.settings import KEYS, Settings, check_file, config_files, load_settings
from pilot.config.units import parse_duration, parse_seconds, parse_size


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pilot").mkdir()
    return {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}


def written(home: dict[str, str], text: str) -> Path:
    path = Path(home["XDG_CONFIG_HOME"]) / "pilot/config.yaml"
    path.write_text(text)
    return path


def test_every_key_is_a_setting_and_every_setting_a_key() -> None:
    assert list(KEYS) == [each.name for each in dataclasses.fields(Settings)]


def test_without_any_file_everything_is_built_in(home: dict[str, str]) -> None:
    found = load_settings({}, home)
    assert {origin for _, origin in found.origins} == {"built-in"}
    assert found.settings == dataclasses.replace(Settings(), binds=found.settings.binds)
    assert found.settings.binds == (("/cvmfs",) if Path("/cvmfs").is_dir() else ())


def test_flag_over_variable_over_file(home: dict[str, str]) -> None:
    path = written(home, "cpus: 1\nmemory: 1GiB\ngrace: 1m\nlabels: {Site: X, n: 3}\n")
    found = load_settings({"cpus": 3, "grace": None}, {**home, "PILOT_CPUS": "2", "PILOT_MEMORY": "2GiB"})
    assert (found.settings.cpus, found.settings.memory, found.settings.grace) == (3, 2 << 30, 60.0)
    assert found.settings.labels == (("Site", "X"), ("n", 3))
    origins = dict(found.origins)
    assert (origins["cpus"], origins["memory"]) == ("flag --cpus", "PILOT_MEMORY")
    assert (origins["grace"], origins["log_level"]) == (f"{path}:3:8", "built-in")
    assert found.files == (str(path),)


def test_a_named_file_stands_for_the_users(home: dict[str, str], tmp_path: Path) -> None:
    written(home, "cpus: 1\n")
    named = tmp_path / "named.yaml"
    named.write_text("cpus: 7\n")
    assert load_settings({}, {**home, "PILOT_CONFIG": str(named)}).settings.cpus == 7
    assert load_settings({}, {**home, "PILOT_CONFIG": "/nowhere"}, named).settings.cpus == 7
    with pytest.raises(ConfigProblems, match="/nowhere: no such configuration file"):
        load_settings({}, {**home, "PILOT_CONFIG": "/nowhere"})
    assert next(config_files(home, named)) == named


def test_every_problem_is_told_at_once(home: dict[str, str]) -> None:
    path = written(
        home,
        "cpus: two\nmemory: 2G\nbinds: [/a, '/b:c', d]\nlgo_level: debug\nruntime: docker\nlabels: [a]\nstate: x/y\n"
        "adopt_window: 5 minutes\nimages: /a\ngpus: 1.5\nqueue: mysql:x\nqueue_name: a b\nlabels2: 1\n",
    )
    with pytest.raises(ConfigProblems) as found:
        load_settings({}, {**home, "PILOT_GRACE": "soon", "PILOT_LABELS": "a"})
    assert [line.removeprefix(f"{path}:") for line in found.value.lines()] == [
        "1:7: cpus: expected a whole number, found text 'two'",
        "2:9: memory: '2G': unknown unit 'G'; did you mean GiB (powers of 1024) or GB (powers of 1000)?",
        "3:8: binds: '/b:c': a path with , : quotes or backslashes cannot be bound",
        "4:1: unknown key 'lgo_level'; did you mean 'log_level'?",
        "5:10: runtime: text 'docker' is not accepted; known: apptainer, bare",
        "6:9: labels: expected a mapping, found a list",
        "7:8: state: 'x/y' is not an absolute path",
        "8:15: adopt_window: '5 minutes' is no duration: write 90s, 30m, 1h30m or whole seconds",
        "10:7: gpus: expected a whole number, found the number 1.5",
        "11:8: queue: 'mysql:x' is no queue: write sqlite:PATH or https://HOST:PORT",
        "12:13: queue_name: expected a name of letters, digits and ._+-, found text 'a b'",
        "13:1: unknown key 'labels2'; did you mean 'labels'?",
        "PILOT_LABELS: 'a' is no label: write name=value",
        "PILOT_GRACE: 'soon' is no duration: write 90s, 30m, 1h30m or whole seconds",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", ":1:1: expected a mapping of keys, found a list"),
        ("a: &b 1", ":1:4: anchors (&) and aliases (*) are not accepted"),
        ("cpus: 1\n---\ncpus: 2\n", ":3:1: a second document"),
        ("cpus: 1\ncpus: 2\n", ":2:1: the key 'cpus' stands here a second time"),
    ],
)
def test_files_that_are_no_configuration(home: dict[str, str], text: str, said: str) -> None:
    path = written(home, text)
    (found,) = check_file(path)
    assert str(found).startswith(f"{path}{said}")


def test_an_empty_file_says_nothing(home: dict[str, str]) -> None:
    written(home, "# later\n")
    assert load_settings({}, home).settings.cpus == 0


def test_variables_hold_lists_and_labels(home: dict[str, str]) -> None:
    found = load_settings({}, {**home, "PILOT_BINDS": "/a:/b", "PILOT_LABELS": "Site=X,n=3", "PILOT_STATE": "here"})
    assert found.settings.binds == ("/a", "/b")
    assert found.settings.labels == (("Site", "X"), ("n", "3"))
    assert found.settings.state == str(Path("here").absolute())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), (60, 60), ("60", 60), ("1d1h1m1s", 90_061), (0, 0)],
)
def test_durations(value: object, seconds: int) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "s", "30m1h", "1.5h", "-1s", "1 h", -1, True, None, 1.5, "9" * 30])
def test_no_durations(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration|negative"):
        parse_duration(value)


def test_seconds_may_be_fractions() -> None:
    assert [parse_seconds(each) for each in ("0.5", "0.5s", 0.25, 3, "1m")] == [0.5, 0.5, 0.25, 3.0, 60.0]


@pytest.mark.parametrize(
    ("value", "size"),
    [("2GiB", 1 << 31), ("2GB", 2 * 10**9), ("2 GiB", 1 << 31), ("1.5KiB", 1536), ("7", 7), (7, 7), ("1kB", 1000),
     ("1TiB", 1 << 40), ("3B", 3), ("0.1GB", 10**8)],
)  # fmt: skip
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["", "2G", "2gib", "GiB", "-1", "1e9", "0x10", -1, True, None, 2.5, "9" * 30])
def test_no_sizes(value: object) -> None:
    with pytest.raises(ValueError, match=r"size|unit"):
        parse_size(value)


def test_a_storage_that_this_pilot_has_no_way_to_is_refused_at_the_start(home: dict[str, str]) -> None:
    path = written(home, "panda_storages: {DISK: 'root://se.example.org//data'}\n")
    with pytest.raises(ConfigProblems) as found:
        load_settings({}, home)
    [line] = found.value.lines()
    assert line.startswith(f"{path}:")
    assert "'root://se.example.org//data': this pilot stores in mounted file systems only: write file:///PATH" in line


def test_a_run_without_files_pays_for_no_parser() -> None:
    program = (
        "import sys\n"
        "from pilot.config.settings import load_settings\n"
        "from pathlib import Path\n"
        "load_settings({'cpus': 1}, {'HOME': '/nonexistent'})\n"
        "print([each for each in ('yaml', 'pydantic', 'click', 'difflib', 'json') if each in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = "['yaml']" if Path("/etc/pilot/config.yaml").exists() else "[]"
    assert done.stdout.strip() == expected
