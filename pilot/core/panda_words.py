"""What of a job PanDA's job definition cannot say: such a job is not given to a client that speaks PanDA alone.

Lost without harm, and so no hindrance: the interval of checkpoints, and that a payload wants no network.
"""

import re
from collections.abc import Callable

from pilot.model.job import JobSpec, Needs

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")  # a logical file name: no folder, no pattern
_URL = re.compile(r"[a-z]+://")
_PILOTS_OWN = re.compile(
    r"--(containerImage|accessmode|useLocalIO|overwriteQueue|overwriteStorage|pilotpars)|<ZIP_MAP>"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FETCHED = ("docker://", "oras://", "/")  # what a container name of PanDA's can be


def unsaid(spec: JobSpec) -> str:
    """The first part of the job that cannot be said, by its name in the job file; "" = all of it can."""
    return next((name for name, hinders in _PARTS if hinders(spec)), "")


def _gpus(needs: Needs) -> bool:
    return needs.gpus.count > 1 or bool(needs.gpus.capability)


def _image(spec: JobSpec) -> bool:
    return bool(spec.image_sha256) or not (spec.image == "" or spec.image.startswith(_FETCHED))


def _outputs(spec: JobSpec) -> bool:
    return any(each.to or each.url or not _FILE.fullmatch(each.name) for each in spec.outputs)


def _command(spec: JobSpec) -> bool:
    """Its first word becomes the transformation: one that looks like an address would be fetched."""
    own = any(_PILOTS_OWN.search(each) for each in spec.command)
    return own or bool(_URL.match(spec.command[0])) or not all(each.isprintable() for each in spec.command)


def _environment(spec: JobSpec) -> bool:
    return not all(_VARIABLE.fullmatch(name) and value.isprintable() for name, value in spec.environment)


_PARTS: tuple[tuple[str, Callable[[JobSpec], bool]], ...] = (
    ("kind", lambda spec: spec.kind != "batch"),
    ("needs", lambda spec: len(spec.needs) != 1),  # variants
    ("needs.gpus", lambda spec: _gpus(spec.needs[0])),
    ("image", _image),
    ("code", lambda spec: spec.code is not None),
    ("inputs", lambda spec: bool(spec.inputs)),
    ("outputs", _outputs),
    ("validate", lambda spec: bool(spec.validate)),
    ("command", lambda spec: not spec.command or _command(spec)),
    ("environment", _environment),
)
