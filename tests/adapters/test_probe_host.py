"""The host probe on recorded and composed nodes, under every batch system's environment, and on this very machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.adapters.probe_host import HostProbe, Limits
from pilot.adapters.probe_host.files import Notes, core_list
from pilot.adapters.probe_host.grant import batch_id, granted
from pilot.adapters.probe_host.processor import microarch
from pilot.core.grants import capabilities
from pilot.model.capability import Bound, HostFinding, LimitedBy, RuntimeFinding, View

NODES = Path(__file__).parent / "recorded" / "nodes"
MIB = 1 << 20


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., HostFinding]:
    """Looks at a recorded node."""

    def look(
        name: str, environment: dict[str, str] | None = None, machine: str = "x86_64", **limits: int
    ) -> HostFinding:
        root = tmp_path / "root"
        for path, text in files(NODES / f"{name}.tree").items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return HostProbe(environment or {}, Limits(**limits), root, machine).look(tmp_path)

    return look


def files(tree: Path) -> dict[str, str]:
    """`== PATH` lines, each followed by what the file holds."""
    found: dict[str, str] = {}
    for part in tree.read_text().split("\n== ")[1:]:
        path, _, text = part.partition("\n")
        found[path] = text.rstrip("\n") + "\n"
    return found


def slot(found: HostFinding) -> tuple[View, LimitedBy]:
    seen = capabilities(found, RuntimeFinding("none"), (), (), 0.0)
    assert (seen.numa, seen.notes) == (found.numa, found.notes)
    return seen.slot, seen.limited_by


def test_slurm_on_version_1_has_its_limits_on_the_parents(node: Callable[..., HostFinding]) -> None:
    found = node("slurm-v1")
    view, limited = slot(found)
    assert (view.cpus, view.memory_bytes) == (2, 524_288_000)
    assert limited.cpus == "affinity"
    assert limited.memory_bytes.endswith("task_0/memory.stat")
    assert Bound("cgroup:/sys/fs/cgroup/memory/slurm_gridbox/uid_2001/job_1/memory.limit_in_bytes", 524_288_000) in (
        found.memory
    )
    assert found.cores == (2, 8)
    assert (found.node.cpus, found.node.memory_bytes) == (64, 263_856_428 * 1024)
    assert (found.numa_nodes, found.numa[1][0], found.numa[1][-1]) == (2, 32, 63)
    assert (found.cpu_model, found.node.microarch) == ("AMD EPYC 7513 32-Core Processor", "x86_64-v3")
    assert found.notes == ()


def test_a_fractional_quota_is_rounded_down_and_the_lowest_parent_wins(node: Callable[..., HostFinding]) -> None:
    found = node("pods-v2")
    view, limited = slot(found)
    assert (view.cpus, view.memory_bytes) == (1, 4_294_967_296)
    scope = "cgroup:/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-abc.scope"
    assert limited.cpus == f"{scope}/cpu.max"
    assert limited.memory_bytes == "cgroup:/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/memory.max"
    assert Bound(f"{scope}/memory.high", 6_442_450_944) in found.memory
    assert Bound(f"{scope}/cpuset.cpus.effective", 5) in found.cpus
    assert found.cores == (0, 1, 2, 3, 8)
    assert found.node.microarch == "x86_64-v4"


@pytest.mark.parametrize(
    ("name", "cpus", "memory", "by_cpus", "by_memory"),
    [
        ("container-v1", 1, 1 << 30, "cpu,cpuacct/cpu.cfs_quota_us", "memory/memory.stat"),
        ("container-v2", 3, 10**9, "cgroup/cpu.max", "cgroup/memory.max"),
        ("hybrid", 2, 3 * 10**9, "node", "my memory/batch/memory.limit_in_bytes"),
        ("small-vm", 2, 24_684_092 * 1024, "node", "node"),
    ],
)
def test_other_ways_to_mount(
    node: Callable[..., HostFinding], name: str, cpus: int, memory: int, by_cpus: str, by_memory: str
) -> None:
    view, limited = slot(node(name))
    assert (view.cpus, view.memory_bytes) == (cpus, memory)
    assert limited.cpus.endswith(by_cpus)
    assert limited.memory_bytes.endswith(by_memory)


@pytest.mark.parametrize(
    ("name", "machine", "level", "model"),
    [
        ("container-v2", "aarch64", "armv8.2-a", "implementer 0x41 part 0xd0c"),
        ("hybrid", "ppc64le", "", "POWER9, altivec supported"),
        ("container-v1", "x86_64", "x86_64-v1", "Old"),
    ],
)
def test_other_processors(node: Callable[..., HostFinding], name: str, machine: str, level: str, model: str) -> None:
    found = node(name, machine=machine)
    assert (found.node.arch, found.node.microarch, found.cpu_model) == (machine, level, model)


def test_levels_need_all_their_flags() -> None:
    v2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
    v3 = f"{v2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
    assert microarch("x86_64", f"flags : {v3} avx512f") == "x86_64-v3"
    assert microarch("x86_64", f"flags : {v3.replace(' movbe', '')}") == "x86_64-v2"
    assert microarch("x86_64", f"flags : {v3.replace('popcnt ', '')}") == "x86_64-v1"


def test_the_site_may_ask_for_less(node: Callable[..., HostFinding]) -> None:
    view, limited = slot(node("small-vm", cpus=1, memory_bytes=10**9, scratch_bytes=10**6))
    assert (view.cpus, view.memory_bytes, view.scratch_bytes) == (1, 10**9, 10**6)
    assert (limited.cpus, limited.memory_bytes, limited.scratch_bytes) == (
        "config:cpus", "config:memory", "config:scratch_size",
    )  # fmt: skip
    seen = dict(limited.seen)
    assert [each.source.split(":")[0] for each in seen["cpus"]] == ["node", "affinity", "cgroup", "config"]


def test_more_than_there_is_changes_nothing(node: Callable[..., HostFinding]) -> None:
    view, limited = slot(node("small-vm", cpus=64, memory_bytes=1 << 50))
    assert (view.cpus, limited.cpus, limited.memory_bytes) == (2, "node", "node")


# --- batch systems ------------------------------------------------------------------------------------------------


def bounds(environment: dict[str, str]) -> tuple[dict[str, int], list[str]]:
    notes = Notes()
    found = granted(environment, notes)
    return {each.source: each.value for each in (*found.cpus, *found.memory, *found.scratch)}, notes.lines


def test_htcondor(tmp_path: Path) -> None:
    ad = tmp_path / ".machine.ad"
    ad.write_text('Arch = "X86_64"\nCpus = 3\nDetectedCpus = 8\ndisk = 1000\nMemory = 256\nTotalMemory = 16000\n')
    found, notes = bounds({"_CONDOR_MACHINE_AD": str(ad), "OMP_NUM_THREADS": "1"})
    assert found == {
        "batch:HTCondor Cpus": 3, "batch:HTCondor Memory": 256 * MIB, "batch:HTCondor Disk": 1_024_000,
    }  # fmt: skip
    assert notes == []
    found, notes = bounds({"_CONDOR_MACHINE_AD": str(tmp_path / "none")})
    assert found == {}
    assert notes == [f"_CONDOR_MACHINE_AD: {tmp_path}/none is empty or not there"]
    ad.write_text("Cpus = 3\nMemory = ifThenElse(")
    found, notes = bounds({"_CONDOR_MACHINE_AD": str(ad)})
    assert found == {"batch:HTCondor Cpus": 3}
    assert notes == [f"_CONDOR_MACHINE_AD: {ad} names no Memory, Disk: that figure is not bounded by it"]


# As batch scripts and steps see them (Slurm 22.05 and 26.05, recorded on real clusters of one node).
STEP = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"}
BATCH = {"SLURM_JOB_ID": "1", "SLURM_JOBID": "1", "SLURM_STEP_ID": "-5", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        (
            {**BATCH, "SLURM_CPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "500"},
            {"batch:Slurm SLURM_CPUS_ON_NODE": 2, "batch:Slurm SLURM_MEM_PER_NODE": 500 * MIB},
        ),
        (
            {**BATCH, "SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_CPU": "250"},
            {"batch:Slurm SLURM_CPUS_ON_NODE": 4, "batch:Slurm SLURM_MEM_PER_CPU": 1000 * MIB},
        ),
        ({**BATCH, "SLURM_MEM_PER_NODE": "0"}, {}),
        ({**BATCH, "SLURM_JOB_CPUS_PER_NODE": "8(x2),4"}, {"batch:Slurm SLURM_JOB_CPUS_PER_NODE": 8}),
        (
            {**BATCH, "SLURM_JOB_CPUS_PER_NODE": "8(x2),4", "SLURM_NODEID": "2"},
            {"batch:Slurm SLURM_JOB_CPUS_PER_NODE": 4},
        ),
        (
            {**BATCH, "SLURM_MEM_PER_GPU": "1000", "SLURM_GPUS_ON_NODE": "2"},
            {"batch:Slurm SLURM_MEM_PER_GPU": 2000 * MIB},
        ),
        (  # four tasks of one step on the node, one of which is this pilot
            {
                "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "4",
                "SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "4000",
            },
            {"batch:Slurm SLURM_CPUS_PER_TASK": 2, "batch:Slurm SLURM_MEM_PER_NODE": 1000 * MIB},
        ),
        (
            {**STEP, "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_CPUS_ON_NODE": "8"},
            {"batch:Slurm SLURM_CPUS_ON_NODE": 2},
        ),
        ({"SLURM_CPUS_ON_NODE": "2"}, {}),  # no job: somebody's login shell
        ({"PBS_JOBID": "1", "NCPUS": "4"}, {"batch:PBS NCPUS": 4}),
        ({"PBS_JOBID": "1", "PBS_NUM_PPN": "2"}, {"batch:PBS PBS_NUM_PPN": 2}),
        ({"NCPUS": "4"}, {}),
        ({"OMP_NUM_THREADS": "1", "PYTHON_CPU_COUNT": "1"}, {}),
    ],
)  # fmt: skip
def test_what_environments_grant(environment: dict[str, str], found: dict[str, int]) -> None:
    assert bounds(environment) == (found, [])


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "9" * 40, "8(x", "8(xy)"])
def test_odd_values_are_noted_not_believed(text: str) -> None:
    environment = {**BATCH, "SLURM_CPUS_ON_NODE": text, "SLURM_JOB_CPUS_PER_NODE": text, "SLURM_MEM_PER_NODE": text}
    found, notes = bounds(environment)
    assert found == {}
    assert len(notes) == 3


def test_job_features(tmp_path: Path) -> None:
    for name, text in {"allocated_cpu": "2", "max_rss_bytes": "1000", "scratch_limit_bytes": "5"}.items():
        (tmp_path / name).write_text(text + "\n")
    assert bounds({"JOBFEATURES": str(tmp_path)})[0] == {
        "batch:JOBFEATURES allocated_cpu": 2,
        "batch:JOBFEATURES max_rss_bytes": 1000,
        "batch:JOBFEATURES scratch_limit_bytes": 5,
    }
    assert bounds({"JOBFEATURES": "http://x/"}) == ({}, [])


# --- nodes that tell little -----------------------------------------------------------------------------------------


def test_an_empty_root_gives_reasons_instead_of_figures(tmp_path: Path) -> None:
    found = HostProbe({}, root=tmp_path, machine="x86_64").look(tmp_path)
    view, limited = slot(found)
    assert (view.cpus, view.memory_bytes, limited.memory_bytes) == (1, 0, "node")
    assert any("tells no MemTotal" in each for each in found.notes)


def test_nonsense_in_files_is_noted(node: Callable[..., HostFinding], tmp_path: Path) -> None:
    node("pods-v2")
    root = tmp_path / "root"
    scope = root / "sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-abc.scope"
    (scope / "cpu.max").write_text("lots 100000\n")
    (scope / "memory.max").write_text("\xff\n")
    (scope / "cpuset.cpus.effective").write_text("0-x\n")
    (root / "sys/devices/system/cpu/online").write_text("?\n")
    found = HostProbe({}, root=root, machine="x86_64").look(tmp_path)
    assert len(found.notes) == 4
    assert slot(found)[0].memory_bytes == 4_294_967_296


def test_unreadable_files_are_noted(node: Callable[..., HostFinding], tmp_path: Path) -> None:
    node("pods-v2")
    root = tmp_path / "root"
    limit = root / "sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/memory.max"
    limit.unlink()
    limit.mkdir()  # reading it fails for root too
    found = HostProbe({}, root=root, machine="x86_64").look(tmp_path)
    assert found.notes == (f"{limit}: Is a directory",)
    assert slot(found)[0].memory_bytes == 6_442_450_944


def test_core_lists() -> None:
    assert core_list("0-3,8") == {0, 1, 2, 3, 8}
    assert core_list("\n") == frozenset()


# --- this machine -----------------------------------------------------------------------------------------------------


def test_this_machine_quickly(tmp_path: Path) -> None:
    probe = HostProbe({})
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        found = probe.look(tmp_path)
        best = min(best, time.perf_counter() - begun)
    assert best < 0.01
    assert set(found.cores) <= os.sched_getaffinity(0)
    assert 0 < slot(found)[0].memory_bytes <= found.node.memory_bytes
    free = os.statvfs(tmp_path)
    assert found.node.scratch_bytes == pytest.approx(free.f_bavail * free.f_frsize, rel=0.1)


def test_affinity_of_this_process_is_seen(tmp_path: Path) -> None:
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert HostProbe({}).look(tmp_path).cores == (min(mine),)
    finally:
        os.sched_setaffinity(0, mine)


def test_a_scratch_that_is_not_there_yet_counts_where_it_will_be(tmp_path: Path) -> None:
    assert HostProbe({}).look(tmp_path / "not" / "yet").node.scratch_bytes > 0


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "4711"}, "slurm-4711"),
        ({"PBS_JOBID": "12.server"}, "pbs-12.server"),
        ({"_CONDOR_JOB_AD": "AD"}, "condor-17.3"),
        ({"_CONDOR_JOB_AD": "/nowhere"}, ""),
    ],
)
def test_the_batch_job_names_the_pilot(environment: dict[str, str], named: str, tmp_path: Path) -> None:
    ad = tmp_path / "job.ad"
    ad.write_text('Owner = "u"\nClusterId = 17\nProcId = 3\n')
    told = {name: str(ad) if value == "AD" else value for name, value in environment.items()}
    assert batch_id(told, Notes()) == named
