"""What names, addresses and variables a job may bring: each check returns the value or raises ValueError."""

import re
from urllib.parse import unquote, urlsplit

from pilot.config.problems import did_you_mean, shown

SCHEMES = ("davs", "file", "https", "root", "roots")
IMAGE_SCHEMES = ("docker", "oras")
IMAGE_SUFFIXES = (".sif", ".simg", ".img")
ARGUMENT_BYTES = 131_071  # Linux takes no longer argument or variable (MAX_ARG_STRLEN, less the final NUL)

# These stand in every working directory (the contract with the payload), so nothing of the job's may take their place.
RESERVED = frozenset({"contract.json", "inputs.json", "events.jsonl", "result.json", "control", "checkpoint", ".pilot"})

_JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SEGMENT = re.compile(r"[A-Za-z0-9._+-]{1,255}")
_PLACEHOLDER = r"\{[A-Za-z_][A-Za-z0-9_]{0,63}\}"  # filled by `pilot queue add --sweep`
_JOB_TITLE = re.compile(rf"(?=.{{1,128}}$)[A-Za-z0-9](?:[A-Za-z0-9._+-]|{_PLACEHOLDER})*")
_PATTERN_SEGMENT = re.compile(rf"(?=.{{1,255}}$)[A-Za-z0-9._+*?\[\]!-](?:[A-Za-z0-9._+*?\[\]!-]|{_PLACEHOLDER})*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VERSION = re.compile(r"\s*(>=|<=|==|!=|>|<|)\s*\d{1,6}(\.\d{1,6}){0,3}\s*")
_IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")

_OURS = "it belongs to the pilot"
_DEVICES = "the pilot sets it from the devices that the job is given"
_BEFORE = "it would run code before the payload starts"
_REFUSED_VARIABLES = {
    **dict.fromkeys(("LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS"), _BEFORE),
    **dict.fromkeys(("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), _DEVICES),
    **dict.fromkeys(("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"), _DEVICES),
}
_REFUSED_PREFIXES = {
    "PILOT_": _OURS,
    "APPTAINER": "it would steer the container",
    "SINGULARITY": "it would steer the container",
    "_CONDOR_": "it belongs to the batch system",
    "SLURM_": "it belongs to the batch system",
}


def job_name(value: str) -> str:
    """A job's name or id: letters, digits and `._+-`, for it becomes part of paths."""
    if not _JOB_NAME.fullmatch(value):
        raise ValueError(f"{shown(value)[5:]}: use letters, digits and ._+- (at most 128, the first a letter or digit)")
    return value


def job_title(value: str) -> str:
    """A job's name, in which a sweep's parameters may stand as `{name}`, though not first."""
    return value if _JOB_TITLE.fullmatch(value) else job_name(value)


def placeholder_in(value: str) -> str:
    """The first placeholder of a name; empty where it holds none."""
    found = re.search(_PLACEHOLDER, value)
    return found[0] if found else ""


def file_name(value: str) -> str:
    """A name in the working directory, sub-directories allowed."""
    return _relative(value, _SEGMENT)


def input_name(value: str) -> str:
    """The name under which the payload sees an input or its code; not one of the contract's own."""
    if file_name(value).split("/")[0] in RESERVED:
        raise ValueError(f"{value!r} is taken by the contract with the payload: choose another name")
    return value


def output_pattern(value: str) -> str:
    """A name or pattern of outputs, relative to the working directory."""
    _relative(value, _PATTERN_SEGMENT)
    if value.count("[") != value.count("]"):
        raise ValueError(f"{value!r}: a bracket of the pattern is not closed")
    return value


def _relative(value: str, allowed: re.Pattern[str]) -> str:
    if value.startswith("/"):
        raise ValueError(f"{shown(value)[5:]} is absolute: names are relative to the working directory")
    segments = value.split("/")
    if ".." in segments:
        raise ValueError(f"{shown(value)[5:]} leads out of the working directory: names may not contain '..'")
    for segment in segments:
        if not allowed.fullmatch(segment) or segment == "." or segment.startswith("-"):
            raise ValueError(f"{shown(value)[5:]}: use letters, digits and ._+- between slashes, not - in front")
    return value


def variable(name: str) -> str:
    """The name of a variable of the payload's environment."""
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{shown(name)[5:]} is no name of a variable: use letters, digits and _")
    reason = _REFUSED_VARIABLES.get(name) or next(
        (why for prefix, why in _REFUSED_PREFIXES.items() if name.startswith(prefix)), ""
    )
    if reason:
        raise ValueError(f"a job cannot set {name}: {reason}")
    return name


def argument(value: str) -> str:
    """One argument of a command, or the value of a variable."""
    if "\0" in value:
        raise ValueError("a NUL character cannot be passed to a program")
    if len(value.encode("utf-8", "surrogatepass")) > ARGUMENT_BYTES:
        raise ValueError(f"longer than {ARGUMENT_BYTES} bytes, the most that Linux passes to a program")
    return value


def version_condition(value: str) -> str:
    """A condition on a version, such as `>=8.0`, or several joined by commas."""
    if not all(_VERSION.fullmatch(each) for each in value.split(",")):
        raise ValueError(f'{shown(value)[5:]} is no condition on a version: write ">=8.0" (with quotes)')
    return value


def url(value: str) -> str:
    """Where a file is or goes."""
    scheme, separator, _ = value.partition("://")
    if not separator:
        raise ValueError(f"{shown(value)[5:]} is no URL: local files are written file:///absolute/path")
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {shown(scheme)[5:]}{did_you_mean(scheme, SCHEMES)}")
    _check_characters(value)
    return _checked_parts(value, scheme)


def _check_characters(value: str) -> None:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"{shown(value)[5:]}: spaces and special characters of a URL are written as %20 and so on")
    if len(value) > 4096:
        raise ValueError("a URL of more than 4096 characters")


def _checked_parts(value: str, scheme: str) -> str:
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError as error:
        raise ValueError(f"{shown(value)[5:]} is no URL: {error}") from None
    if "@" in parts.netloc:
        raise ValueError("a user or password in a URL would be seen by everybody: leave it out")
    if ".." in unquote(parts.path).split("/"):
        raise ValueError(f"{shown(value)[5:]}: '..' is not accepted in a URL")
    if scheme == "file" and (parts.netloc not in {"", "localhost"} or not parts.path.startswith("/")):
        raise ValueError(f"{shown(value)[5:]}: local files are written file:///absolute/path (three slashes)")
    if scheme != "file" and not host:
        raise ValueError(f"{shown(value)[5:]} names no host")
    return value


def hexadecimal(value: str, digits: int) -> str:
    """A checksum of so many hexadecimal digits; returned in lower case."""
    if len(value) != digits or not re.fullmatch(r"[0-9a-fA-F]+", value):
        raise ValueError(f"{shown(value)[5:]} is no checksum: {digits} hexadecimal digits are needed")
    return value.lower()


def image(value: str) -> str:
    """An image's reference, checked."""
    split_image(value)
    return value


def split_image(value: str) -> tuple[str, str]:
    """An image's reference and its pin (empty without one); whether a path is relative is the caller's business."""
    if not value:
        return "", ""
    scheme, separator, _ = value.partition("://")
    if separator and scheme not in IMAGE_SCHEMES:
        raise ValueError(f"unknown kind of image {shown(scheme)[5:]}{did_you_mean(scheme, IMAGE_SCHEMES)}")
    if separator:  # a registry's digest names the manifest, not the file: it stays part of the reference
        _check_characters(value)
        return value, ""
    reference, at, digest = value.partition("@")
    if at and not digest.startswith("sha256:"):
        raise ValueError(f"{shown(value)[5:]}: a pin is written @sha256: and 64 hexadecimal digits")
    pin = hexadecimal(digest.removeprefix("sha256:"), 64) if at else ""
    if not is_image_path(reference) and not _IMAGE_NAME.fullmatch(reference):
        raise ValueError(f"{shown(reference)[5:]} is no name of an image: use letters, digits and ._+-, or a path")
    if any(each in reference for each in ',:"') or not reference.isprintable():
        raise ValueError(f"{shown(reference)[5:]}: the path of an image cannot hold , : or quotes")
    return reference, pin


def is_image_path(reference: str) -> bool:
    """Whether an image is meant by its place rather than by its name."""
    return "/" in reference or reference.endswith(IMAGE_SUFFIXES)
