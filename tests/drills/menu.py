"""The kinds of jobs and of rounds that the drills are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pilot.config.codepack import pack
from pilot.model.files import Input, Output
from pilot.model.job import JobSpec, Needs, Verdict
from pilot.model.queue import Submission

# Each start of a payload is one line in the ledger, where a payload can reach it (without a container).
NOTE = 'echo "$PILOT_JOB_ID $PILOT_ATTEMPT $$" >>"$LEDGER"\n'
FLAG = 'echo here >"$FLAG"\n'
WORK = NOTE + 'cat "$1" >out.txt; echo made >>out.txt; mkdir sub; echo 1 >sub/a.txt; echo 2 >sub/b.txt; sleep 0.05\n'
FAIL = NOTE + "echo sorry >&2; exit 3\n"
CHECK = 'grep -q made out.txt && [ "$(cat sub/b.txt)" = 2 ]\n'
RESUME = "if [ -f checkpoint/gen-000001/count ]; then cat checkpoint/gen-000001/count >out.txt; exit 0; fi\n"
SAVE = """mkdir -p checkpoint/.part; echo 1 >checkpoint/.part/count; echo 2 >checkpoint/.part/zero
echo '{"contract": "1.0"}' >checkpoint/.part/generation.json
[ -d checkpoint/gen-000001 ] || mv checkpoint/.part checkpoint/gen-000001
"""
SAVER = NOTE + RESUME + SAVE + "exit 85\n"
WAIT = "trap 'exit 143' TERM\nn=0; while {} && [ $n -lt 100 ]; do sleep 0.02; n=$((n+1)); done\n"
TOLD = NOTE + FLAG + WAIT.format("[ ! -f control/CHECKPOINT_NOW ]") + SAVE + "sleep 0.3; echo 1 >out.txt\n"
LINGER = NOTE + FLAG + WAIT.format("true") + "echo late >out.txt\n"
ONCE = NOTE + FLAG + WAIT.format("[ $PILOT_ATTEMPT = 1 ]") + "echo done >out.txt\n"
MADE = b"input\nmade\n"
ARCHIVE = "logs.tgz"  # of the jobs of `plain`


@dataclass(frozen=True)
class Expected:
    """What must have become of a job: its verdict (any of these), and each output's bytes where it succeeded."""

    verdicts: frozenset[Verdict]
    outputs: dict[str, bytes] = field(default_factory=dict)
    base: str = "out"
    faults: frozenset[str] = frozenset()  # the codes that may be told where it did not succeed


@dataclass(frozen=True)
class Scenario:
    """One kind of round. `acts`: what is done once a file of the round is there; `weight`: how often it is drawn."""

    name: str
    make: Callable[[Path], list[tuple[Submission, Expected]]]
    runtime: str = "bare"
    cpus: int = 2
    lease: float = 30.0
    prefetch: int = 0
    grace: float = 1.0
    acts: tuple[tuple[str, str], ...] = ()
    payload_seconds: float = 1.0
    adopt_window: float = 3.0
    usurped: bool = False  # the killed pilot stays away until another one has done its jobs
    weight: int = 4


def _job(root: Path, name: str, script: str, expected: Expected, **changes: object) -> tuple[Submission, Expected]:
    folder = root / "code" / name
    folder.mkdir(parents=True)
    (folder / "main.sh").write_text(script)
    (folder / "check.sh").write_text(CHECK)
    data, code = pack(folder, ["main.sh", "check.sh"])
    (root / "input.txt").write_text("input\n")
    spec = JobSpec(
        name=name,
        command=("sh", "main.sh", "in.txt"),
        code=code,
        environment=(("LEDGER", str(root / "ledger")), ("FLAG", str(root / f"flag-{name}"))),
        inputs=(Input((root / "input.txt").as_uri(), "in.txt", size=6),),
        outputs=tuple(Output(each) for each in expected.outputs),
        needs=(Needs(cpus=1, memory_bytes=64 << 20, scratch_bytes=64 << 20),),
        attempts=1,
    )
    return Submission(replace(spec, **changes), f"{root.name}-{name}", data), expected  # type: ignore[arg-type]


def _good(**outputs: bytes) -> Expected:
    return Expected(frozenset({Verdict.SUCCEEDED}), {f"{name}.txt": data for name, data in outputs.items()})


_WORKED = Expected(frozenset({Verdict.SUCCEEDED}), {"out.txt": MADE, "sub/a.txt": b"1\n", "sub/b.txt": b"2\n"})


def _plain(root: Path) -> list[tuple[Submission, Expected]]:
    failed = Expected(frozenset({Verdict.FAILED}), faults=frozenset({"payload.exit"}))
    logs = Output(ARCHIVE)
    return [
        _job(root, "good", WORK, _WORKED, outputs=(Output("out.txt"), Output("sub/*")), log_archive=logs),
        _job(root, "bad", FAIL, failed, outputs=(Output("never.txt"),), log_archive=logs),
    ]


def _checked(root: Path) -> list[tuple[Submission, Expected]]:
    return [_job(root, "checked", WORK, _WORKED, validate=("sh", "check.sh"))]


def _saver(root: Path) -> list[tuple[Submission, Expected]]:
    return [_job(root, "saver", SAVER, _good(out=b"1\n"), checkpoint_interval=3600)]


def _told(root: Path) -> list[tuple[Submission, Expected]]:
    return [_job(root, "told", TOLD, _good(out=b"1\n"), checkpoint_interval=3600)]


def _cancelled(root: Path) -> list[tuple[Submission, Expected]]:
    either = Expected(
        frozenset({Verdict.CANCELLED, Verdict.SUCCEEDED}), {"out.txt": b"late\n"}, faults=frozenset({"job.cancelled"})
    )
    return [_job(root, "cancelled", LINGER, either)]


def _preempted(root: Path) -> list[tuple[Submission, Expected]]:
    return [_job(root, name, ONCE, _good(out=b"done\n")) for name in ("first", "second")]


def _parked(root: Path) -> list[tuple[Submission, Expected]]:
    (root / "shut").write_text("a file where a directory should be")
    output = Output("out.txt", (root / "shut" / "deep").as_uri())
    expected = Expected(frozenset({Verdict.SUCCEEDED}), {"out.txt": MADE}, base="shut/deep")
    return [_job(root, "parked", WORK, expected, outputs=(output,))]


def _boxed(form: str) -> Callable[[Path], list[tuple[Submission, Expected]]]:
    def make(root: Path) -> list[tuple[Submission, Expected]]:
        image = str(sorted((root / "cache" / "images").glob(f"test-tiny-*.{form}"))[-1])
        script = WORK.removeprefix(NOTE)
        return [_job(root, form, script, _WORKED, image=image, validate=("sh", "check.sh"))]

    return make


# A pilot that does not come back, until it is too late: not drawn by chance, since it must wait for a lease to end.
USURPED = Scenario("usurped", lambda root: _preempted(root)[:1], lease=1.0, adopt_window=0.3, grace=0.5, usurped=True)
SCENARIOS = (
    Scenario("plain", _plain, weight=6),
    Scenario("checked", _checked, weight=6),
    Scenario("saver", _saver),
    Scenario("told", _told, acts=(("flag-told", "usr1"),)),
    Scenario("cancelled", _cancelled, lease=3.0, acts=(("flag-cancelled", "cancel"),), payload_seconds=4.0, weight=2),
    Scenario(
        "preempted", _preempted, cpus=1, prefetch=1, acts=((':"event": "Arrived"*2', "term"),), payload_seconds=3.0
    ),
    Scenario("parked", _parked, acts=((':"phase": "parked"', "open"),), payload_seconds=4.0, weight=2),
    Scenario("directory", _boxed("dir"), runtime="apptainer", payload_seconds=2.0, weight=3),
    Scenario("sif", _boxed("sif"), runtime="apptainer", payload_seconds=2.0, weight=2),
)
