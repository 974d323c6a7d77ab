"""Outputs found in a directory where a payload could put anything."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot.adapters.outputs import Outputs
from pilot.model.faults import Code
from pilot.model.files import Output
from pilot.ports import PortError, Sandbox
from tests.sandboxes import sandbox_in

collect = Outputs()


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = sandbox_in(tmp_path)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "token").write_text("secret")
    return made


def write(sandbox: Sandbox, *names: str) -> None:
    for name in names:
        path = sandbox.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def names(sandbox: Sandbox, *patterns: str, optional: bool = False) -> list[str]:
    return [name for name, _ in collect(sandbox.work, [Output(each, optional=optional) for each in patterns])]


def refusal(action: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(PortError) as caught:
        action()
    assert "\n" not in caught.value.fault.detail
    return caught.value.fault.code, caught.value.fault.detail


def test_names_and_patterns_in_the_order_asked_for_each_file_once(sandbox: Sandbox) -> None:
    write(
        sandbox,
        "model.onnx",
        "metrics/b.json",
        "metrics/a.json",
        "metrics/deep/c.json",
        "epoch=3-step=100.ckpt",
        ".hidden",
    )
    assert names(sandbox, "metrics/*.json", "model.onnx", "*.onnx") == [
        "metrics/a.json",
        "metrics/b.json",
        "model.onnx",
    ]
    assert names(sandbox, "metrics/*/c.json") == ["metrics/deep/c.json"]
    assert names(sandbox, "epoch=[0-9]*.ckpt") == ["epoch=3-step=100.ckpt"]
    assert ".hidden" not in names(sandbox, "*")
    assert names(sandbox, ".hidden") == [".hidden"]


def test_a_folder_stands_for_all_files_in_it(sandbox: Sandbox) -> None:
    write(sandbox, "saved/model.pb", "saved/variables/v.1", "saved/.keep")
    assert names(sandbox, "saved/") == ["saved/.keep", "saved/model.pb", "saved/variables/v.1"]
    assert names(sandbox, "saved/", "sav*") == names(sandbox, "saved")


def test_a_missing_output_is_named_unless_it_is_optional(sandbox: Sandbox) -> None:
    write(sandbox, "there")
    (sandbox.work / "empty").mkdir()
    for missing in ("model.onnx", "metrics/*", "empty", "there/below"):
        code, detail = refusal(lambda missing=missing: names(sandbox, "there", missing))
        assert (code, missing in detail) == (Code.OUTPUT_MISSING, True)
        assert names(sandbox, "there", missing, optional=True) == ["there"]


def test_inputs_code_and_the_pilots_own_files_are_nobodys_output(sandbox: Sandbox) -> None:
    for place, name in (
        (sandbox.inputs, "data/events.root"),
        (sandbox.code, "train.py"),
        (sandbox.code, "lib/part.py"),
    ):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("ours")
        write(sandbox, name)
    write(sandbox, "contract.json", "inputs.json", ".pilot/marker", "data/made.root", "out")
    assert names(sandbox, "*", "data/*", "lib/*", optional=True) == ["data/made.root", "out"]
    for ours in ("train.py", "lib/part.py", "data/events.root", "contract.json", ".pilot/marker"):
        assert refusal(lambda ours=ours: names(sandbox, ours))[0] is Code.OUTPUT_MISSING


def test_links_that_stay_inside_are_followed(sandbox: Sandbox) -> None:
    write(sandbox, "ckpt/best", "deep/er/file")
    (sandbox.work / "last").symlink_to("ckpt/best")
    (sandbox.work / "chain").symlink_to("./ckpt/../last")
    (sandbox.work / "as-seen").symlink_to("/srv/ckpt/best")
    (sandbox.work / "as-is").symlink_to(sandbox.work / "ckpt" / "best")
    (sandbox.work / "short").symlink_to("deep/er")
    found = dict(collect(sandbox.work, [Output(each) for each in ("last", "chain", "as-seen", "as-is", "short/file")]))
    best = sandbox.work.resolve() / "ckpt" / "best"
    assert found == {
        **dict.fromkeys(("last", "chain", "as-seen", "as-is"), best),
        "short/file": sandbox.work.resolve() / "deep/er/file",
    }


OUTSIDE = (
    "/etc/passwd",
    "/srv/../etc/passwd",
    "/srvx",
    "/proc/self/environ",
    "/",
    "..",
    "../home",
    "../../secret/token",
    "sub/../../pilot/contract.json",
)


@pytest.mark.parametrize("target", OUTSIDE)
@pytest.mark.parametrize("how", ["name", "pattern", "folder", "below"])
def test_links_that_lead_out_are_an_escape(sandbox: Sandbox, target: str, how: str) -> None:
    write(sandbox, "dir/ok", "sub/x")
    (sandbox.work / "dir" / "link").symlink_to(target if target.startswith("/") else f"../{target}")
    asked = {"name": "dir/link", "pattern": "dir/l*", "folder": "dir", "below": "dir/link/token"}[how]
    for optional in (False, True):
        code, detail = refusal(lambda optional=optional: names(sandbox, asked, optional=optional))
        assert code is Code.OUTPUT_ESCAPE
        assert "secret" not in detail or target in detail


def test_circles_of_links_end(sandbox: Sandbox) -> None:
    (sandbox.work / "a").symlink_to("b")
    (sandbox.work / "b").symlink_to("a")
    write(sandbox, "dir/x")
    (sandbox.work / "dir" / "self").symlink_to(".")
    (sandbox.work / "dir" / "again").symlink_to("../dir")
    assert refusal(lambda: names(sandbox, "a"))[0] is Code.OUTPUT_ESCAPE
    assert refusal(lambda: names(sandbox, "dir"))[0] is Code.OUTPUT_ESCAPE


def test_what_is_no_file_is_an_escape(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox.work)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    for each in ("fifo", "socket", "f*"):
        assert refusal(lambda each=each: names(sandbox, each))[0] is Code.OUTPUT_ESCAPE


def test_hard_links_count_only_if_every_name_is_inside(sandbox: Sandbox, tmp_path: Path) -> None:
    write(sandbox, "one")
    os.link(sandbox.work / "one", sandbox.work / "two")
    assert names(sandbox, "one", "two") == ["one", "two"]
    os.link(tmp_path / "secret" / "token", sandbox.work / "stolen")
    assert refusal(lambda: names(sandbox, "stolen"))[0] is Code.OUTPUT_ESCAPE


@pytest.mark.parametrize("name", ["", "/", "/abs", "../up", "a/../../b", "..", "~/x", "a\0b", "a\nb"])
def test_names_that_lead_out_are_refused_though_nobody_checked_before(sandbox: Sandbox, name: str) -> None:
    assert refusal(lambda: names(sandbox, name, optional=True))[0] is Code.OUTPUT_NAME


@pytest.mark.parametrize("name", ["two\nlines", "bell\a", "\u202egnp.exe", os.fsdecode(b"\xff")])
def test_names_that_nobody_can_read_are_refused(sandbox: Sandbox, name: str) -> None:
    write(sandbox, f"dir/{name}")
    assert refusal(lambda: names(sandbox, "dir/*"))[0] is Code.OUTPUT_NAME


def test_a_folder_without_end_is_refused(sandbox: Sandbox) -> None:
    descriptor = os.open(sandbox.work, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("deeper", dir_fd=descriptor)
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    assert refusal(lambda: names(sandbox, "deeper"))[0] is Code.OUTPUT_NAME


PART = st.one_of(
    st.sampled_from(["..", ".", "", "link", "dir", "out", "file", "*", "[", "~", "token", "secret", "\u202e", "a b"]),
    st.text(max_size=5),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(PART, min_size=1, max_size=5), absolute=st.booleans())
def test_no_name_finds_anything_outside(sandbox: Sandbox, parts: list[str], absolute: bool) -> None:
    write(sandbox, "dir/file", "file")
    for name, target in (("link", "../../secret"), ("dir/link", "/"), ("dir/out", "../../..")):
        if not (sandbox.work / name).is_symlink():
            (sandbox.work / name).symlink_to(target)
    name = ("/" if absolute else "") + "/".join(parts)
    try:
        found = collect(sandbox.work, [Output(name, optional=True)])
    except PortError as error:
        refused = {Code.OUTPUT_NAME, Code.OUTPUT_ESCAPE, Code.OUTPUT_MISSING}
        found = () if error.fault.code in refused else pytest.fail(repr(error.fault))
    for _, path in found:
        assert path.resolve().is_relative_to(sandbox.work.resolve())


def test_a_folder_that_turns_into_a_link_and_back_gives_nothing_outside(sandbox: Sandbox, tmp_path: Path) -> None:
    write(sandbox, "real/token")
    (sandbox.work / "way-out").symlink_to(tmp_path / "secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("real", "way-out"):
                os.rename(sandbox.work / name, sandbox.work / "dir")
                os.rename(sandbox.work / "dir", sandbox.work / name)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                found = collect(sandbox.work, [Output("dir/token"), Output("real/token", optional=True)])
                seen.update(str(path.relative_to(sandbox.work.resolve())) for _, path in found)
            except PortError as error:
                seen.add(str(error.fault.code))
    finally:
        stop.set()
        swapper.join()
    assert seen <= {"dir/token", "real/token", "output.missing", "output.escape"}
    assert "output.missing" in seen
