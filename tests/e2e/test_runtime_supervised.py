"""Apptainer under the supervisor, as the pilot runs it: the kill ladder ends a container whole."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.adapters.apptainer_found import Search
from pilot.adapters.launcher_supervisor import SupervisorLauncher
from pilot.adapters.runtime_apptainer import ApptainerRuntime
from pilot.model.files import ImageUsed
from pilot.ports import Gone, Launch, Sandbox
from pilot.supervisor import procs
from tests.e2e.supervised import until
from tests.sandboxes import HELPER, apptainer_cache, marker, request, sandbox_in, tiny_images

pytestmark = pytest.mark.apptainer


class Bench:
    """A launcher, a sandbox and what was told of ends."""

    def __init__(self, folder: Path, form: str) -> None:
        self.sandbox: Sandbox = sandbox_in(folder)
        self.runtime = ApptainerRuntime(
            HELPER, folder / "receipts", Search(path=os.environ["PATH"], cache=apptainer_cache())
        )
        self.image = ImageUsed("probe", str(tiny_images()[form]), "", form)
        (folder / "state").mkdir()
        self.launcher = SupervisorLauncher(folder / "state", 0.0)
        self.ends: list[Gone] = []
        self.told = threading.Event()
        self.launcher.attend(self._gone)

    def _gone(self, gone: Gone) -> None:
        self.ends.append(gone)
        self.told.set()

    def start(self, script: str, grace: float = 5.0) -> None:
        plan = self.runtime.prepare(request(self.sandbox, "/bin/sh", "-c", script, image=self.image))
        logs = self.sandbox.logs
        self.launcher.start(
            Launch("17.1.run", plan, self.sandbox.pilot / "run", logs / "stdout", logs / "stderr", grace)
        )

    def end(self) -> Gone:
        assert self.told.wait(20)
        return self.ends[0]


@pytest.fixture(params=["directory", "sif"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    yield made
    made.launcher.close()
    left = [each.pid for each in procs.table() if each.state not in "ZX" and _names(each.pid, tmp_path)]
    assert left == []


def _names(pid: int, folder: Path) -> bool:
    try:
        return os.fsencode(folder) in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def test_an_ordinary_end(bench: Bench) -> None:
    bench.start("echo out; echo err >&2; exit 3")
    gone = bench.end()
    assert (gone.exit_code, gone.signal, gone.gone) == (3, None, True)
    assert (bench.sandbox.logs / "stdout").read_text() == "out\n"
    assert (bench.sandbox.logs / "stderr").read_text() == "err\n"
    assert marker(bench.sandbox) == "started"


@pytest.mark.parametrize("hostile", ["trap '' TERM INT HUP; ", "sleep 900 & setsid sleep 900 & ", ""])
def test_the_ladder_ends_whatever_runs(bench: Bench, hostile: str) -> None:
    bench.start(f"{hostile}echo ready; while :; do sleep 900; done", grace=0.3)
    until(lambda: marker(bench.sandbox) and "ready" in (bench.sandbox.logs / "stdout").read_text())
    bench.launcher.stop("17.1.run", 0.3)
    gone = bench.end()
    assert (gone.gone, gone.stopped_by) == (True, "stop")


@pytest.mark.parametrize("own", ["kill -9 0", "kill -9 -1; exit 9", "kill -9 $$", "kill -SEGV $$"])
def test_a_payload_that_kills_what_it_can_hurts_only_itself(bench: Bench, own: str) -> None:
    bench.start(f"sleep 900 & {own}; sleep 900")
    gone = bench.end()
    assert gone.gone
    assert gone.exit_code != 0
