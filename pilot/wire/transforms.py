"""PanDA's user transforms as commands of ours: what `prun` and `phpo` send, without the scripts they name.

PanDA's `transformation` is a URL of a script that would be fetched over plain http and run with a credential, and
that starts containers of its own. Three of them are known by name and *translated*; every other one is refused with
the reason, and so is every option whose effect this pilot does not have.
"""

import getopt
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pilot.model.files import Input
from pilot.wire import script
from pilot.wire.definition import Definition, image_reference
from pilot.wire.envelope import WireError, shown
from pilot.wire.literals import list_map, text_list, text_map
from pilot.wire.places import checked_name
from pilot.wire.words import words

_URL = re.compile(r"[a-z]+://")
_KNOWN = re.compile(r"(runGen|runcontainer|runHPO)(-[0-9][0-9-]*|-dev)?")
_SHELL_SIGNS = re.compile(r"[$`;&|<>()*?\[\]{}~#!\n]|^\S*=")  # what a shell would make something else of
_PILOTS_OWN = re.compile(r"--(accessmode=\S*|useLocalIO\b|overwriteQueue[dD]ata=(\{[^}]{0,1000}\}|\S*)|pilotpars\b)")
_STORAGE = re.compile(r"--overwriteStorage[dD]ata|<ZIP_MAP>")
_MOST_STREAMS = 100  # of inputs: each is looked for in the command
_MOST_OUTPUTS = 1000  # as tasks may name: each is a line of the script
_CONTAINER = re.compile(r"--containerImage[= ]\s*(\S+)")


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, in which image, and what it needs beside the job's own inputs."""

    command: tuple[str, ...]
    image: str
    more: tuple[Input, ...] = ()


def program_of(definition: Definition) -> Program:
    """What that job runs; raises WireError where this pilot cannot tell, or does not do it."""
    if not definition.transformation:
        raise WireError("transformation: it is missing")
    if not _URL.match(definition.transformation):
        return _plain(definition)
    name = definition.transformation.rstrip("/").rpartition("/")[2]
    found = _KNOWN.fullmatch(name)
    if found is None:
        known = ", ".join(TRANSFORMS)
        raise WireError(f"transformation: {shown(name)} is a script to be fetched and run; translated are {known}")
    return TRANSFORMS[found[1]](definition)


def _plain(definition: Definition) -> Program:
    """A command of the image; a shell comes in only where the parameters have signs that need one."""
    if _STORAGE.search(definition.parameters):
        raise WireError("jobPars: --overwriteStorageData and ZIP_MAP are not done by this pilot")
    rest = _PILOTS_OWN.sub("", definition.parameters)
    named = _CONTAINER.search(rest)
    image = image_reference(named[1]) if named else definition.image
    line = f"{definition.transformation} {_CONTAINER.sub('', rest)}".strip()
    return Program(script.shell([line]) if _SHELL_SIGNS.search(line) else words(line), image)


# --- what the three share -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one transform: those with a value and without that are followed, those that mean nothing here.

    Idle are those that the image decides, those of other ways to read inputs (this pilot stages every one), and those
    for finding faults in PanDA's own scripts. An option that stands nowhere here is refused by name.
    """

    takes: str
    switches: str
    idle: str
    idle_switches: str

    def parse(self, parameters: str) -> dict[str, str]:
        """The options that were given, by name; raises WireError for any other, and for words that are no option."""
        valued = f"{self.takes} {self.idle}".split()
        short = "".join(f"{each[1]}:" for each in valued if not each.startswith("--"))
        long = [f"{each[2:]}=" for each in valued if each.startswith("--")]
        bare = [each[2:] for each in f"{self.switches} {self.idle_switches}".split()]
        try:
            found, rest = getopt.gnu_getopt(words(parameters), short, [*long, *bare])
        except getopt.GetoptError as error:
            raise WireError(f"jobPars: {error}: this pilot does not do that") from None
        if rest:
            raise WireError(f"jobPars: {shown(rest[0])} is no option")
        return dict(found)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs as the transform's options name them: one stream, or several by name."""

    names: tuple[str, ...]
    streams: Mapping[str, Sequence[str]]

    def into(self, command: str) -> str:
        """The command with the lists in place of %IN and its like, the longest names first."""
        return _put(command, {name: ",".join(files) for name, files in self.streams.items()})


def _inputs(definition: Definition, given: Mapping[str, str]) -> Inputs:
    skipped = given.get("--skipInputByRetry", "").split(",")
    first = [each for each in text_list(given.get("-i", "[]"), "-i") if each not in skipped]
    streams = list_map(given.get("--inMap", "{}"), "--inMap") or ({"IN": first} if first else {})
    if len(streams) > _MOST_STREAMS:
        raise WireError(f"--inMap: more than {_MOST_STREAMS} streams")
    kept = {name: [each for each in files if each not in skipped] for name, files in streams.items()}
    names = dict.fromkeys([*first, *(each for files in kept.values() for each in files)])
    here = {each.name for each in definition.inputs}
    lost = [each for each in names if each not in here and not _URL.match(each)]
    if lost or not all(re.fullmatch(r"[A-Za-z0-9_]+", each) for each in kept):
        raise WireError(f"-i: {shown(lost[0]) if lost else 'a stream'} is not among the job's inputs")
    return Inputs(tuple(each for each in names if each in here), kept)


def _put(command: str, lists: Mapping[str, str]) -> str:
    if not lists:
        return command
    names = "|".join(sorted(map(re.escape, lists), key=len, reverse=True))
    if list(lists) == ["IN"]:
        return command.replace("%IN", lists["IN"])
    return re.sub(rf"%({names})(?=[ \"',;|>&)]|$)", lambda found: lists[found[1]], command, flags=re.MULTILINE)


def _lists_to_files(given: Mapping[str, str], inputs: Inputs, write: Callable[[Sequence[str]], str]) -> list[str]:
    lines: list[str] = []
    for item in filter(None, given.get("--writeInputToTxt", "").split(",")):
        stream, _, name = item.partition(":")
        if not name or stream.lstrip("%") not in inputs.streams:
            raise WireError(f"--writeInputToTxt: {shown(item)} is no STREAM:FILE of this job")
        lines += script.write(name, write(inputs.streams[stream.lstrip("%")]))
    return lines


def _outputs(given: Mapping[str, str]) -> dict[str, str]:
    outputs = text_map(given.get("-o", "{}"), "-o")
    if len(outputs) > _MOST_OUTPUTS:
        raise WireError(f"-o: more than {_MOST_OUTPUTS} outputs")
    return {old: checked_name(new) for old, new in outputs.items()}


def _exec_string(given: Mapping[str, str]) -> str:
    try:
        said = unquote(given.get("-p", ""), errors="strict")
    except ValueError:
        raise WireError("-p: the command is no text once its percent signs are read") from None
    command = f"{given.get('-j', '')} {said}".strip()
    if not command or len(command) > script.ARGUMENT_BYTES:
        raise WireError("-p: there is no command" if not command else "-p: the command is too long")
    return command


def _sandbox(given: Mapping[str, str]) -> tuple[Input, ...]:
    """The user's own files; a task that brings a library has had them built already."""
    archive = "" if given.get("-l") else given.get("-a", "")
    return (script.sandbox_input(given.get("--sourceURL", ""), archive),) if archive else ()


def _library(definition: Definition, given: Mapping[str, str]) -> str:
    name = given.get("-l", "")
    if name and name not in {each.name for each in definition.inputs}:
        raise WireError(f"-l: the library {shown(name)} is not among the job's inputs")
    return name


def _run(command: str) -> list[str]:
    """Runs the user's command in a shell of its own, whose end is kept; its first word may lack the mode to run."""
    first = command.split(maxsplit=1)[0]
    loosen = [f"chmod +x {shlex.quote(first)} 2>/dev/null"] if re.fullmatch(r"[A-Za-z0-9._/][\w./+-]*", first) else []
    return [*loosen, "PATH=$PATH:. sh -c " + shlex.quote(command), "status=$?"]


# --- runGen: prun --------------------------------------------------------------------------------------------------

RUNGEN = Options(
    takes="-i -o -j -l -p -r -a --sourceURL --inMap --writeInputToTxt --skipInputByRetry",
    switches="--execWithRealFileNames --givenPFN",
    idle="--inputGUIDs --oldPrefix --newPrefix --lfcHost --envvarFile --liveLog --accessmode --cmtConfig --jem-config",
    idle_switches="--pilotpars --debug --directIn --useFileStager --usePFCTurl --enable-jem --useCMake",
)


def _run_gen(definition: Definition) -> Program:
    """The user's command in a folder of its own, with sandbox and inputs; then its outputs under PanDA's names."""
    given = RUNGEN.parse(definition.parameters)
    inputs, more = _inputs(definition, given), _sandbox(given)
    outputs = _outputs(given)
    command = inputs.into(_exec_string(given))
    if "--execWithRealFileNames" in given:
        command, outputs = _real_names(command, outputs)
    lines = [
        "top=$PWD",
        *script.enter("workDir"),
        *script.unpack(_library(definition, given)),
        *(line for each in more for line in script.unpack(each.name)),
        *script.enter(given.get("-r", ".")),
        *script.link(inputs.names),
        *_lists_to_files(given, inputs, ",".join),
        *_run(command),
        *script.collect(outputs),
        "exit $status",
    ]
    return Program(script.shell(lines), definition.image, more)


def _real_names(command: str, outputs: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The command with PanDA's names of the outputs in it, where it names them as words of their own."""
    changed, renamed = command, {}
    for old, new in outputs.items():
        pattern = rf"(?<=[= \"'>]){re.escape(old)}(?=[ \"',;]|$)"
        before, changed = changed, changed if "*" in old else re.sub(pattern, lambda _, name=new: name, changed)  # type: ignore[misc]  # mypy knows no default of a lambda
        renamed[old if changed == before else new] = new
    return changed, renamed


# --- runcontainer: prun --containerImage, the older way ---------------------------------------------------------------

RUNCONTAINER = Options(
    takes="-i -o -j -l -p -r -a --sourceURL --inMap --writeInputToTxt --skipInputByRetry --containerImage",
    switches="",
    idle="--inputGUIDs --rootVer --cmtConfig --useCentralRegistry --accessmode --containerEnv",
    idle_switches="--debug --cvmfs --containerCvmfs --noX509 --directIn --useAthenaPackages --useCMake --givenPFN "
    "--pilotpars --useFileStager --usePFCTurl",
)
_DATA = re.compile(r"(?<![\w./-])/data(?![\w.-])")


def _run_container(definition: Definition) -> Program:
    """The user's command in the working directory; the script's own container becomes the job's."""
    given = RUNCONTAINER.parse(definition.parameters)
    image = image_reference(given.get("--containerImage", "")) or definition.image
    if not image:
        raise WireError("runcontainer: there is no --containerImage")
    command = _exec_string(given)
    if _DATA.search(command):
        raise WireError("-p: the command names /data, the folder of PanDA's own script: write names relative to it")
    inputs, more = _inputs(definition, given), _sandbox(given)
    lines = [
        "top=$PWD",
        *(line for each in more for line in script.unpack(each.name)),
        *_lists_to_files(given, inputs, ",".join),
        *_run(inputs.into(command)),
        *script.collect(_outputs(given), deep=True),
        "exit $status",
    ]
    return Program(script.shell(lines), image, more)


TRANSFORMS: dict[str, Callable[[Definition], Program]] = {"runGen": _run_gen, "runcontainer": _run_container}
