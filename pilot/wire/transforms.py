"""PanDA's user transforms as commands of ours: what `prun` and `phpo` send, without the scripts they name.

PanDA's `transformation` is a URL of a script that would be fetched over plain http and run with a credential, and
that starts containers of its own. Three of them are known by name and *translated*; every other one is refused with
the reason, and so is every option whose effect this pilot does not have.
"""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from pilot.model.files import Input
from pilot.wire import script
from pilot.wire.definition import Definition, image_reference
from pilot.wire.envelope import WireError, shown
from pilot.wire.options import URL, Options, exec_string, inputs_of, library, lists_to_files, outputs_of, run, sandbox
from pilot.wire.places import checked_name
from pilot.wire.points import Point
from pilot.wire.words import words

_KNOWN = re.compile(r"(runGen|runcontainer|runHPO)(-[0-9][0-9-]*|-dev)?")
_SHELL_SIGNS = re.compile(r"[$`;&|<>()*?\[\]{}~#!\n]|^\S*=")  # what a shell would make something else of
_PILOTS_OWN = re.compile(r"--(accessmode=\S*|useLocalIO\b|overwriteQueue[dD]ata=(\{[^}]{0,1000}\}|\S*)|pilotpars\b)")
_STORAGE = re.compile(r"--overwriteStorage[dD]ata|<ZIP_MAP>")
_CONTAINER = re.compile(r"--containerImage[= ]\s*(\S+)")


NO_POINT = Point()


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, in which image, and what it needs beside the job's own inputs."""

    command: tuple[str, ...]
    image: str
    more: tuple[Input, ...] = ()


def program_of(definition: Definition, point: Point = NO_POINT) -> Program:
    """What that job runs, for that point; raises WireError where this pilot cannot tell, or does not do it."""
    if not definition.transformation:
        raise WireError("transformation: it is missing")
    if not URL.match(definition.transformation):
        return _plain(definition)
    name = definition.transformation.rstrip("/").rpartition("/")[2]
    found = _KNOWN.fullmatch(name)
    if found is None:
        known = ", ".join(TRANSFORMS)
        raise WireError(f"transformation: {shown(name)} is a script to be fetched and run; translated are {known}")
    return TRANSFORMS[found[1]](definition, point)


def _plain(definition: Definition) -> Program:
    """A command of the image; a shell comes in only where the parameters have signs that need one."""
    if _STORAGE.search(definition.parameters):
        raise WireError("jobPars: --overwriteStorageData and ZIP_MAP are not done by this pilot")
    rest = _PILOTS_OWN.sub("", definition.parameters)
    named = _CONTAINER.search(rest)
    image = image_reference(named[1], definition.image_base) if named else definition.image
    line = f"{definition.transformation} {_CONTAINER.sub('', rest)}".strip()
    return Program(script.shell([line]) if _SHELL_SIGNS.search(line) else words(line), image)


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
    inputs, more = inputs_of(definition, given), sandbox(given)
    outputs = outputs_of(given)
    command = inputs.into(exec_string(given))
    if "--execWithRealFileNames" in given:
        command, outputs = _real_names(command, outputs)
    lines = [
        "top=$PWD",
        *script.enter("workDir"),
        *script.unpack(library(definition, given)),
        *(line for each in more for line in script.unpack(each.name)),
        *script.enter(given.get("-r", ".")),
        *script.link(inputs.names),
        *lists_to_files(given, inputs, ",".join),
        *run(command),
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
    image = image_reference(given.get("--containerImage", ""), definition.image_base) or definition.image
    if not image:
        raise WireError("runcontainer: there is no --containerImage")
    command = exec_string(given)
    if _DATA.search(command):
        raise WireError("-p: the command names /data, the folder of PanDA's own script: write names relative to it")
    inputs, more = inputs_of(definition, given), sandbox(given)
    lines = [
        "top=$PWD",
        *(line for each in more for line in script.unpack(each.name)),
        *lists_to_files(given, inputs, ",".join),
        *run(inputs.into(command)),
        *script.collect(outputs_of(given), deep=True),
        "exit $status",
    ]
    return Program(script.shell(lines), image, more)


# --- runHPO: phpo ----------------------------------------------------------------------------------------------------

RUNHPO = Options(
    takes="-i -o -j -l -p -a --sourceURL --inMap --writeInputToTxt --inSampleFile --outMetricsFile",
    switches="",
    idle="--inputGUIDs --oldPrefix --newPrefix --accessmode --pandaURL --iddsURL --outMetaFile --maxLoopCount",
    idle_switches="--pilotpars --debug --directIn --usePFCTurl",
)
# The number behind "loss" in the payload's output; a "status" other than 0 there says that it could not be evaluated.
_LOSS = r"""loss=$(tr -d '\n' < %s | sed -n 's/.*"loss"[[:space:]]*:[[:space:]]*\([-+0-9.eE]\{1,40\}\).*/\1/p')"""
_SOUND = r"""! tr -d '\n' < %s | grep -q '"status"[[:space:]]*:[[:space:]]*[1-9-]'"""
_RESULT = (
    """printf '{"contract":"1.0","status":"succeeded","message":"loss=%%s"}' "$loss" """
    """> "$top"/result.part && mv "$top"/result.part "$top"/result.json"""
)


def _run_hpo(definition: Definition, point: Point) -> Program:
    """The evaluation of the point that was drawn for it; without one there is nothing left to do."""
    given = RUNHPO.parse(definition.parameters)
    if not point.event:
        return Program(("true",), definition.image)
    inputs, more = inputs_of(definition, given), sandbox(given)
    output = shlex.quote(script.inner_path(given.get("-o", "out.json"), "-o"))
    new, _, old = given.get("--outMetricsFile", "").partition("^")
    lines = [
        "top=$PWD",
        *script.enter("workDir"),
        *script.unpack(library(definition, given)),
        *(line for each in more for line in script.unpack(each.name)),
        *script.link(inputs.names),
        *lists_to_files(given, inputs, json.dumps),
        *script.write(given.get("--inSampleFile", "input_sample.json"), point.parameters),
        *run(inputs.into(exec_string(given))),
        *(script.pack(old, checked_name(new)) if new else []),
        f'[ $status -eq 0 ] && {_SOUND % output} && {_LOSS % output} && [ -n "$loss" ] && {_RESULT % ()} && exit 0',
        f"[ $status -ne 0 ] || echo 'pilot: there is no loss in '{output} >&2",
        f"[ $status -ne 0 ] && exit $status || exit {script.NO_RESULT}",
    ]
    return Program(script.shell(lines), definition.image, more)


TRANSFORMS: dict[str, Callable[[Definition, Point], Program]] = {
    "runGen": lambda definition, _: _run_gen(definition),
    "runcontainer": lambda definition, _: _run_container(definition),
    "runHPO": _run_hpo,
}
