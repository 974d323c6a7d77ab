"""What PanDA's user transforms have in common: their options, their inputs, the sandbox, the command."""

import getopt
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pilot.model.files import Input
from pilot.wire import script
from pilot.wire.definition import Definition
from pilot.wire.envelope import WireError, shown
from pilot.wire.literals import list_map, text_list, text_map
from pilot.wire.places import checked_name
from pilot.wire.words import words

URL = re.compile(r"[a-z]+://")
_MOST_WORDS = 1000  # of a transform's parameters: options and their values
_MOST_STREAMS = 100  # of inputs: each is looked for in the command
_MOST_OUTPUTS = 1000  # as tasks may name: each is a line of the script


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
        line = words(parameters)
        if len(line) > _MOST_WORDS:
            raise WireError(f"jobPars: more than {_MOST_WORDS} words")
        try:
            found, rest = getopt.gnu_getopt(line, short, [*long, *bare])
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


def inputs_of(definition: Definition, given: Mapping[str, str]) -> Inputs:
    """The inputs that the options name, each of which has to be one of the job's."""
    skipped = set(given.get("--skipInputByRetry", "").split(","))
    first = [each for each in text_list(given.get("-i", "[]"), "-i") if each not in skipped]
    streams = list_map(given.get("--inMap", "{}"), "--inMap") or ({"IN": first} if first else {})
    if len(streams) > _MOST_STREAMS:
        raise WireError(f"--inMap: more than {_MOST_STREAMS} streams")
    kept = {name: [each for each in files if each not in skipped] for name, files in streams.items()}
    names = dict.fromkeys([*first, *(each for files in kept.values() for each in files)])
    here = {each.name for each in definition.inputs}
    lost = [each for each in names if each not in here and not URL.match(each)]
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


def lists_to_files(given: Mapping[str, str], inputs: Inputs, write: Callable[[Sequence[str]], str]) -> list[str]:
    """The lines that write lists of inputs into files, in the form that the transform writes them."""
    lines: list[str] = []
    for item in filter(None, given.get("--writeInputToTxt", "").split(",")):
        stream, _, name = item.partition(":")
        if not name or stream.lstrip("%") not in inputs.streams:
            raise WireError(f"--writeInputToTxt: {shown(item)} is no STREAM:FILE of this job")
        lines += script.write(name, write(inputs.streams[stream.lstrip("%")]))
    return lines


def outputs_of(given: Mapping[str, str]) -> dict[str, str]:
    """PanDA's names of the outputs by those that the payload gives them."""
    outputs = text_map(given.get("-o", "{}"), "-o")
    if len(outputs) > _MOST_OUTPUTS:
        raise WireError(f"-o: more than {_MOST_OUTPUTS} outputs")
    return {old: checked_name(new) for old, new in outputs.items()}


def exec_string(given: Mapping[str, str]) -> str:
    """The user's command line."""
    try:
        said = unquote(given.get("-p", ""), errors="strict")
    except ValueError:
        raise WireError("-p: the command is no text once its percent signs are read") from None
    command = f"{given.get('-j', '')} {said}".strip()
    if not command or len(command) > script.ARGUMENT_BYTES:
        raise WireError("-p: there is no command" if not command else "-p: the command is too long")
    return command


def sandbox(given: Mapping[str, str]) -> tuple[Input, ...]:
    """The user's own files; a task that brings a library has had them built already."""
    archive = "" if given.get("-l") else given.get("-a", "")
    return (script.sandbox_input(given.get("--sourceURL", ""), archive),) if archive else ()


def library(definition: Definition, given: Mapping[str, str]) -> str:
    """The archive of what was built before, one of the job's inputs."""
    name = given.get("-l", "")
    if name and name not in {each.name for each in definition.inputs}:
        raise WireError(f"-l: the library {shown(name)} is not among the job's inputs")
    return name


def run(command: str) -> list[str]:
    """Runs the user's command in a shell of its own, whose end is kept; its first word may lack the mode to run."""
    first = command.split(maxsplit=1)[0]
    loosen = [f"chmod +x {shlex.quote(first)} 2>/dev/null"] if re.fullmatch(r"[A-Za-z0-9._/][\w./+-]*", first) else []
    return [*loosen, "PATH=$PATH:. sh -c " + shlex.quote(command), "status=$?"]
