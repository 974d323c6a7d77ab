"""What every job must be like to be run at all, whoever handed it in: asked where jobs come in, and by every pilot.

The job file's own check is stricter, and says where in the file; these are the rules that code relies on.
"""

from collections.abc import Iterable, Iterator

from pilot.model.files import Output
from pilot.model.job import VARIANTS_CAP, GpuNeeds, JobSpec, Needs

STRING_BYTES = 131_071  # the longest argument or NAME=VALUE that Linux takes (MAX_ARG_STRLEN, less the NUL)
WORDS_BYTES = 512 << 10  # of all arguments and variables together: a quarter of what Linux takes, for ours are added
LARGEST = 1 << 50  # bytes, seconds or pieces
ENDS_CAP = 100_000
TEXTS_LENGTH = 1 << 20  # of everything else
INPUTS_CAP, OUTPUTS_CAP = 5000, 1000
LONGEST_NAME, LONGEST_URL = 1024, 8192


def broken(spec: JobSpec) -> str:
    """What is wrong with the job; "" for one that can be run."""
    return next(_problems(spec), "")


def placed(spec: JobSpec) -> str:
    """What only a pilot may say, from its site's own map of storages, and nobody who hands in a job."""
    if spec.log_archive is not None and spec.log_archive.url:
        return "log_archive.url: only a pilot says where a file is written, from its site's own settings; use `to`"
    number = next((number for number, each in enumerate(spec.outputs) if each.url), None)
    if number is None:
        return ""
    return f"outputs[{number}].url: only a pilot says where a file is written, from its site's own settings; use `to`"


def _problems(spec: JobSpec) -> Iterator[str]:
    if not spec.command or not spec.command[0]:
        yield "it has no command"
    yield from _needs(spec.needs)
    if not 1 <= spec.attempts <= ENDS_CAP:
        yield f"attempts: between 1 and {ENDS_CAP}"
    if not 0 <= spec.max_interruptions <= ENDS_CAP:
        yield f"max_interruptions: between 0 and {ENDS_CAP}"
    if not 0 <= spec.checkpoint_interval <= LARGEST:
        yield "checkpoint: an interval below zero, or without end"
    yield from _words(spec)
    yield from _texts(spec)
    yield from _inputs(spec)
    yield from _outputs((*spec.outputs, *((spec.log_archive,) if spec.log_archive else ())))


def _needs(needs: tuple[Needs, ...]) -> Iterator[str]:
    if not 1 <= len(needs) <= VARIANTS_CAP:
        yield f"needs: {len(needs)} variants; between 1 and {VARIANTS_CAP}"
    for each in needs:
        figures = (each.cpus, each.memory_bytes, each.scratch_bytes, each.walltime_seconds, *_figures(each.gpus))
        if each.cpus < 1 or not all(0 <= figure <= LARGEST for figure in figures):
            yield "needs: a number below zero, no core at all, or more than any machine has"


def _figures(gpus: GpuNeeds) -> tuple[int, int]:
    return gpus.count, gpus.memory_bytes


def _words(spec: JobSpec) -> Iterator[str]:
    """Arguments and variables are handed to the kernel, which takes neither NUL nor texts without end."""
    for what, words in (
        ("command", spec.command),
        ("validate", spec.validate),
        ("environment", tuple(f"{name}={value}" for name, value in spec.environment)),
    ):
        sizes = [_size(each) for each in words]
        number = next((at for at, each in enumerate(words) if "\0" in each or sizes[at] > STRING_BYTES), None)
        if number is not None:
            why = "a NUL character" if "\0" in words[number] else f"{sizes[number]} bytes, of {STRING_BYTES} at most"
            yield f"{what}[{number}]: {why}: Linux passes no such text to a program"
        if sum(sizes) > WORDS_BYTES:
            yield f"{what}: {sum(sizes)} bytes together, {WORDS_BYTES} at most: put them into a file"
    wrong = next((name for name, _ in spec.environment if not name or "=" in name), None)
    if wrong is not None:
        yield f"environment: {wrong[:40]!r} is no name of a variable"


def _texts(spec: JobSpec) -> Iterator[str]:
    """All that is read by queue and pilot, again and again."""
    code = spec.code.names if spec.code else ()
    lists = (code, spec.after, [each.url + each.name for each in spec.inputs])
    texts = [*(each for one in lists for each in one), *(each.name + each.to + each.url for each in spec.outputs)]
    total = sum(map(len, texts)) + len(spec.requirements) + len(spec.image) + len(spec.name)
    if total > TEXTS_LENGTH:
        yield f"its description has {total} letters, {TEXTS_LENGTH} at most: name files in a list of your own"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _inputs(spec: JobSpec) -> Iterator[str]:
    if len(spec.inputs) > INPUTS_CAP:
        yield f"inputs: {len(spec.inputs)}, {INPUTS_CAP} at most"
    for number, each in enumerate(spec.inputs):
        if not _stays_below(each.name) or len(each.url) > LONGEST_URL:
            yield f"inputs[{number}]: {each.name[:80]!r}: write a name relative to the working directory"
    clash = clash_of([each.name for each in spec.inputs])
    if clash:
        yield f"inputs: {clash}"


def clash_of(names: Iterable[str]) -> str:
    """Why those files cannot lie in one folder; "" where they can."""
    files: set[str] = set()
    for each in names:
        if each in files:
            return f"the name {each[:80]!r} is given twice"
        files.add(each)
    for each in files:
        steps = each.split("/")
        inside = next((part for end in range(1, len(steps)) if (part := "/".join(steps[:end])) in files), "")
        if inside:
            return f"{inside[:80]!r} cannot be a file and the folder of {each[:80]!r}"
    return ""


def _outputs(outputs: tuple[Output, ...]) -> Iterator[str]:
    if len(outputs) > OUTPUTS_CAP + 1:
        yield f"outputs: {len(outputs)}, {OUTPUTS_CAP} at most"
    for number, each in enumerate(outputs):
        if max(len(each.to), len(each.url)) > LONGEST_URL or len(each.name) > LONGEST_NAME or "\0" in each.name:
            yield f"outputs[{number}]: a name or place that no storage takes"
        if ".." in each.name.split("/") or each.name.startswith("/"):
            yield f"outputs[{number}]: {each.name[:80]!r}: write a name relative to the working directory"


def _stays_below(name: str) -> bool:
    parts = name.split("/")
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and not {"", ".", ".."} & set(parts)
