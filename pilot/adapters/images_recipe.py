"""The recipe of an image: an Apptainer definition file, and the comment lines in it that say what to bring along.

# debian-base: [--essential] SUITE PACKAGE...    the root directory, where no registry is reached
# parent: NAME                                   or: the image that this one stands on
# wheels: FILE                                   pinned requirements, fetched beforehand and bound to /mnt
# python: 3.11                                   for this Python
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pilot.model.faults import Code
from pilot.ports import Final

_NOTE = re.compile(r"^# (debian-base|parent|wheels|python): (.+?)\s*$", re.MULTILINE)
_DEFAULTS = re.compile(r"^%arguments\s*\n((?:[ \t]+.*\n|\s*\n)*)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Arguments = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made from. `arguments` are the definition's own, as overridden for this build."""

    name: str
    definition: Path
    arguments: Arguments
    debian_base: tuple[str, ...] = ()
    parent: str = ""
    wheels: Path | None = None
    python: str = "3.11"

    @property
    def folder(self) -> Path:
        """Where the definition and the files that it names lie."""
        return self.definition.parent

    def digest(self, parent_sha256: str = "") -> str:
        """Changes when anything does that the image is made from: then it must be built again."""
        state = hashlib.sha256(repr((self.arguments, parent_sha256)).encode())
        for path in sorted({self.definition, *self._sources()}):
            state.update(path.name.encode() + b"\0" + path.read_bytes())
        return state.hexdigest()

    def _sources(self) -> list[Path]:
        text = self.definition.read_text(encoding="utf-8")
        for key, value in self.arguments:
            text = text.replace("{{ " + key + " }}", value)
        named = [self.folder / word for word in text.split() if _NAME.fullmatch(word)]
        base = [self.folder / "debian-base"] if self.debian_base else []
        return [path for path in [*named, *base] if path.is_file()]


def read(name_or_definition: str, shipped: Path, overrides: Arguments = ()) -> Recipe:
    """The recipe of a shipped image (by name), or of a definition file (by path)."""
    definition = _find(name_or_definition, shipped)
    text = definition.read_text(encoding="utf-8")
    arguments = _arguments(definition, text, overrides)
    notes = {}
    for key, value in _NOTE.findall(text):
        for argument, filled in arguments:
            value = value.replace("{{ " + argument + " }}", filled)  # noqa: PLW2901
        notes[key] = value
    wheels = definition.parent / notes["wheels"] if "wheels" in notes else None
    if wheels is not None and not wheels.is_file():
        raise Final(Code.IMAGE_MISSING, f"{definition}: there is no {wheels.name} beside it")
    return Recipe(
        name=definition.stem,
        definition=definition,
        arguments=arguments,
        debian_base=tuple(notes.get("debian-base", "").split()),
        parent=notes.get("parent", ""),
        wheels=wheels,
        python=notes.get("python", "3.11"),
    )


def _find(name_or_definition: str, shipped: Path) -> Path:
    if name_or_definition.endswith(".def"):
        definition = Path(name_or_definition).absolute()
    else:
        definition = shipped / f"{name_or_definition}.def"
    if definition.is_file() and _NAME.fullmatch(definition.stem):
        return definition
    known = ", ".join(sorted(path.stem for path in shipped.glob("*.def"))) or "none here"
    raise Final(
        Code.IMAGE_MISSING, f"no definition {name_or_definition}: give the path of a .def file, or one of: {known}"
    )


def _arguments(definition: Path, text: str, overrides: Arguments) -> Arguments:
    section = _DEFAULTS.search(text)
    lines = section.group(1).splitlines() if section else []
    known = dict(line.strip().split("=", 1) for line in lines if "=" in line)
    for key, _ in overrides:
        if key not in known:
            wanted = ", ".join(sorted(known)) or "none"
            raise Final(Code.IMAGE_MISSING, f"{definition} has no build argument {key}; it has: {wanted}")
    return tuple({**known, **dict(overrides)}.items())
