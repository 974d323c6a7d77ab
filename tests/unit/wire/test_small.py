"""The small readers: lists, literals, words, places, wishes, points."""

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.model.job import GpuNeeds
from pilot.wire import literals, places, points, reading
from pilot.wire.envelope import Reply, WireError
from pilot.wire.wishes import gpu_wishes
from pilot.wire.words import words

MIB = 1 << 20


# --- reading ---


def test_parallel_lists() -> None:
    data = {"a": "1,NULL,3", "b": "", "c": None, "d": "NULL"}
    assert reading.listing(data, "a") == ("1", "", "3")
    assert reading.parallel(data, "b", 2, "x") == ("", "")
    assert [reading.listing(data, each) for each in "bcd"] == [(), (), ()]
    with pytest.raises(WireError, match="a: 3 parts beside 2 of x"):
        reading.parallel(data, "a", 2, "x")


@pytest.mark.parametrize("value", [True, -1, 1.5, "x", "1.5", [], "9" * 30, 1 << 60])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(WireError, match="n: expected a whole number"):
        reading.number({"n": value}, "n")


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), (7.0, 7), (None, 3), ("NULL", 3), ("", 3)])
def test_numbers(value: object, number: int) -> None:
    assert reading.number({"n": value}, "n", 3) == number


def test_flags() -> None:
    assert [reading.flag({"a": each}, "a") for each in ("True", True, "False", False, None, "NULL")] == [
        True, True, False, False, False, False
    ]  # fmt: skip
    with pytest.raises(WireError):
        reading.flag({"a": "yes"}, "a")


# --- literals and words ---


@given(st.lists(st.text(max_size=6), max_size=4), st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3))
def test_pythons_own_literals_are_read(names: list[str], mapping: dict[str, str]) -> None:
    plain = [each for each in names if each.isprintable()]
    assert literals.text_list(repr(plain), "-i") == plain
    kept = {name: each for name, each in mapping.items() if (name + each).isprintable()}
    assert literals.text_map(repr(kept), "-o") == kept


@given(st.text(alphabet="[]{},:'\"\\ ua", max_size=30))
def test_nothing_but_wire_errors_of_literals(text: str) -> None:
    for read in (literals.text_list, literals.text_map, literals.list_map):
        try:
            read(text, "x")
        except WireError:
            continue


@given(st.text(alphabet="ab '\"\\\n-", max_size=20))
def test_words_are_those_of_shlex(text: str) -> None:
    try:
        expected: tuple[str, ...] | None = tuple(shlex.split(text))
    except ValueError:
        expected = None
    try:
        found: tuple[str, ...] | None = words(text)
    except WireError:
        found = None
    assert found == expected


# --- places ---


@pytest.mark.parametrize(
    ("scope", "name", "path"),
    [
        ("user.ada", "data._000001.npz", "user/ada/eb/73/data._000001.npz"),
        ("group.phys-ml", "calib.v7.json", "group/phys-ml/dd/34/calib.v7.json"),
        ("mc23_13p6TeV", "a.root", "mc23_13p6TeV/2d/9c/a.root"),
        ("data.v1", "a", "data.v1/be/50/a"),  # as Rucio: only users' and groups' scopes are split
    ],
)
def test_rucios_paths(scope: str, name: str, path: str) -> None:
    assert places.rucio_path(scope, name) == path


@pytest.mark.parametrize(
    ("scope", "name"), [("", "a"), ("a/b", "a"), ("..", "a"), ("a", "b/c"), ("a", ".x"), ("a", "")]
)
def test_what_is_no_place(scope: str, name: str) -> None:
    with pytest.raises(WireError):
        places.rucio_path(scope, name)


def test_storages() -> None:
    document = {
        "DISK": {
            "state": "ACTIVE",
            "is_deterministic": True,
            "arprotocols": {
                "read_lan": [
                    {"endpoint": "srm://a:1", "path": "/x"},
                    {"endpoint": "root://b:1094/", "path": "/r/rucio/"},
                ],
                "write_lan": [["davs://c:443", "/w", 3]],
            },
        },
        "READ": {"arprotocols": {"pr": [{"endpoint": "https://d", "path": "/p"}]}},
        "LOCAL": {"arprotocols": {"pr": [{"endpoint": "file://", "path": "/data/rse", "flavour": "POSIX"}]}},
        "TAPE": {"arprotocols": {"pr": [{"endpoint": "srm://d", "path": "/p"}]}},
        "OFF": {"state": "DISABLED", "arprotocols": {"pr": [{"endpoint": "https://d", "path": "/p"}]}},
        "FLAT": {"is_deterministic": False, "arprotocols": {"pr": [{"endpoint": "https://d", "path": "/p"}]}},
        "NONE": {},
    }
    assert places.storages(document) == {
        "DISK": places.Endpoint("root://b:1094/r/rucio", "davs://c:443/w"),
        "READ": places.Endpoint("https://d/p", "https://d/p"),
        "LOCAL": places.Endpoint("file:///data/rse", "file:///data/rse"),
    }
    for wrong in ([], {"A": 7}, {"A": {"arprotocols": 7}}):
        with pytest.raises(WireError):
            places.storages(wrong)


# --- wishes ---


@pytest.mark.parametrize(
    ("architecture", "needs"),
    [
        ("", GpuNeeds()),
        ("x86_64-el9-gcc13-opt@el9", GpuNeeds()),
        ("x86_64-el9#x86_64-*-avx2", GpuNeeds()),
        ("#x86_64-*-avx2&nvidia", GpuNeeds(1)),
        ("&nvidia-*", GpuNeeds(1)),
        ("&NVIDIA:cuda>=12.0:vram>=40960:uarch=Ampere", GpuNeeds(1, 40960 * MIB, ">=8.0,<8.9", ">=12.0")),
        ("&*:vram=1000", GpuNeeds(1, 1000 * MIB)),
        ('{"sw_platform": "x", "gpu_spec": null}', GpuNeeds()),
        ('{"gpu_spec": {"vendor": "nvidia", "model": "*", "vram": ">=24000"}}', GpuNeeds(1, 24000 * MIB)),
        ('{"gpu_spec": {"microarchitecture": "Hopper", "version": "==12.4"}}', GpuNeeds(1, 0, ">=9.0,<10.0", "==12.4")),
    ],
)
def test_gpu_wishes(architecture: str, needs: GpuNeeds) -> None:
    assert gpu_wishes(architecture) == needs


@pytest.mark.parametrize(
    "architecture",
    ["&amd", "&nvidia-A100", "&nvidia:vram<=10", "&nvidia:driver>=575.0", "&nvidia:uarch=Fermi", "&nvidia:x", "{",
     '{"gpu_spec": 7}', "&nvidia:cuda>=new"],
)  # fmt: skip
def test_wishes_that_cannot_be_kept(architecture: str) -> None:
    with pytest.raises(WireError):
        gpu_wishes(architecture)


def test_a_model_and_a_driver_are_there_where_the_server_chose_by_devices_of_one_kind() -> None:
    wish = '{"gpu_spec": {"vendor": "nvidia", "model": ".*A100.*", "driver_version": ">=575.0", "vram": ">=40000"}}'
    with pytest.raises(WireError, match="model"):
        gpu_wishes(wish)
    assert gpu_wishes(wish, alike=True) == GpuNeeds(1, 40000 * MIB)


# --- points ---

EVENT = "8017-6003-0-12-5"


def test_a_point() -> None:
    data = {"PandaID": 6003, "taskID": 8017, "jobsetID": 4711, "transformation": "http://x/trf/user/runHPO-00-00-01"}
    assert points.wants_point(data)
    assert points.draw(data) == {"job_id": 6003, "jobset_id": 0, "task_id": 8017, "n_ranges": 1}
    ranges = [{"eventRangeID": EVENT, "startEvent": 0, "lastEvent": 0, "LFN": None}]
    assert points.drawn(Reply(True, "", ranges)) == EVENT
    assert points.drawn(Reply(True, "", [])) == ""
    asked = points.look_up(data, EVENT)
    assert asked["command_name"] == "get_hyperparameters"
    assert json.loads(str(asked["kwargs"])) == {"workload_id": 8017, "request_id": None, "id": "12"}
    found = [{"id": "12", "loss": None, "parameters": {"lr": 0.1}}]
    assert points.point_of(Reply(True, "", found), EVENT) == points.Point(EVENT, "12", '{"lr": 0.1}')
    assert points.point_of(Reply(True, "", [0, found]), EVENT).sample == "12"
    told = points.tell_loss("8017", EVENT, 0.25)
    assert json.loads(str(told["kwargs"])) == {"workload_id": 8017, "request_id": None, "id": "12", "loss": 0.25}


@pytest.mark.parametrize(
    "data", [None, [], [{"id": "13"}], [{"id": "12", "parameters": 7}], [{"id": "12", "loss": "x"}]]
)
def test_what_is_no_point(data: object) -> None:
    with pytest.raises(WireError):
        points.point_of(Reply(True, "", data), EVENT)


@pytest.mark.parametrize(
    ("message", "loss"), [("loss=0.5", 0.5), ("loss=-1e-3", -0.001), ("loss=", None), ("loss=1e999", None),
                          ("loss=.e", None), ("loss=0.5 ", None), ("fine", None), ("", None)],
)  # fmt: skip
def test_losses(message: str, loss: float | None) -> None:
    assert points.loss_in(message) == loss
