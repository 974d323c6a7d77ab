"""The doctor's checks on nodes that are well and nodes that are not."""

import os
from pathlib import Path

import pytest

from pilot.adapters import host_checks as checks
from pilot.model.capability import RuntimeFinding
from pilot.model.check import Status
from pilot.model.faults import Code


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ((3, 10, 9), Status.FAIL), ((3, 11, 7), Status.WARN), ((3, 11, 13), Status.OK), ((3, 12, 10), Status.WARN),
        ((3, 13, 4), Status.OK), ((3, 14, 0), Status.OK),
    ],
)  # fmt: skip
def test_python(version: tuple[int, int, int], status: Status) -> None:
    assert checks.python(version).status is status


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    for each in ("usr/bin/apptainer", "usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).touch()
    return tmp_path / "usr/bin/apptainer"


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [
        ("1.3.1", Status.FAIL, "CVE-2024-3727"),
        ("1.3.2", Status.WARN, "CVE-2025-65105"),
        ("1.4.5", Status.OK, ""),
        ("1.4.5-1.el9", Status.OK, ""),
        ("unknown", Status.WARN, "cannot tell its version"),
    ],
)
def test_apptainer_without_setuid(installed: Path, version: str, status: Status, said: str) -> None:
    found = checks.apptainer_version(RuntimeFinding("apptainer", str(installed), version, works=True))
    assert found.status is status
    assert said in found.detail


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a setuid file of root's")
@pytest.mark.parametrize(("version", "status"), [("1.4.5", Status.WARN), ("1.5.1", Status.OK), ("1.1.7", Status.FAIL)])
def test_apptainer_with_setuid(installed: Path, version: str, status: Status) -> None:
    starter = installed.parent.parent / "lib/x86_64-linux-gnu/apptainer/bin/starter-suid"
    starter.chmod(0o4755)
    found = checks.apptainer_version(RuntimeFinding("apptainer", str(installed), version, works=True))
    assert found.status is status
    assert "setuid" in found.detail


def test_no_apptainer() -> None:
    nothing = RuntimeFinding("apptainer", detail="none found")
    assert checks.apptainer_version(nothing).code == Code.RUNTIME_MISSING
    assert checks.container(nothing).status is Status.FAIL
    assert checks.network(nothing).status is Status.SKIP


def test_what_a_runtime_can_do() -> None:
    works = RuntimeFinding("apptainer", "/a", "1.4.5", works=True, flags=("--userns",))
    assert checks.container(works).status is Status.OK
    assert checks.network(works).status is Status.WARN


def test_fuse(tmp_path: Path) -> None:
    assert checks.fuse(tmp_path / "fuse").status is Status.WARN
    (tmp_path / "fuse").touch()
    assert checks.fuse(tmp_path / "fuse").status is Status.OK


def test_user_namespaces_are_tried() -> None:
    found = checks.user_namespaces()
    assert found.status in (Status.OK, Status.FAIL, Status.SKIP)
    assert (found.remedy == "") == (found.status is Status.OK)


def test_a_closed_switch_is_named(tmp_path: Path) -> None:
    switch = tmp_path / "proc/sys/kernel/unprivileged_userns_clone"
    switch.parent.mkdir(parents=True)
    switch.write_text("0\n")
    assert "kernel.unprivileged_userns_clone" in checks._namespace_remedy(tmp_path)
    switch.write_text("1\n")
    assert "setuid" in checks._namespace_remedy(tmp_path)


def test_places(tmp_path: Path) -> None:
    assert checks.scratch(tmp_path / "later").status in (Status.OK, Status.WARN)
    assert checks.state(tmp_path).status is Status.OK
    (tmp_path / "file").touch()
    assert checks.scratch(tmp_path / "file").status is Status.FAIL
    assert checks.state(Path("/proc/nothing")).status is Status.FAIL
    assert checks.clock(tmp_path).status is Status.OK
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_inherited_variables() -> None:
    assert checks.inherited({"PATH": "/bin"}).status is Status.OK
    found = checks.inherited({"APPTAINER_BINDPATH": "/a", "LD_PRELOAD": "x.so"})
    assert (found.status, found.detail.startswith("APPTAINER_BINDPATH, LD_PRELOAD")) == (Status.WARN, True)


def test_binds(tmp_path: Path) -> None:
    assert checks.binds(()).detail == "none"
    assert checks.binds((str(tmp_path),)).status is Status.OK
    gone = checks.binds((str(tmp_path), f"{tmp_path}/gone"))
    assert (gone.status, gone.detail) == (Status.FAIL, f"{tmp_path}/gone: not there")
