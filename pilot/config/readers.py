"""How each kind of setting is read, from YAML or from the text of a variable; errors say what to write."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pilot.config.names import url
from pilot.config.problems import did_you_mean, shown
from pilot.config.units import parse_seconds, parse_size

Label = str | int | float | bool


def choice(*known: str) -> Callable[[object], str]:
    """One of a few words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            near = did_you_mean(value, known) if isinstance(value, str) else f"; known: {', '.join(known)}"
            raise ValueError(f"{shown(value)} is not accepted{near}")
        return value

    return read


def number(least: int, most: int) -> Callable[[object], int]:
    """A whole number within bounds."""

    def read(value: object) -> int:
        found = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 16 else value
        if not isinstance(found, int) or isinstance(found, bool):
            raise ValueError(f"expected a whole number, found {shown(value)}")
        if not least <= found <= most:
            raise ValueError(f"{found} is not between {least} and {most}")
        return found

    return read


def size(value: object) -> int:
    """A size in bytes."""
    return parse_size(value)


def seconds(value: object) -> float:
    """A duration in seconds."""
    return parse_seconds(value)


def word(value: object) -> str:
    """A name without blanks or special characters."""
    if not isinstance(value, str) or not value or not all(each.isalnum() or each in "._+-" for each in value):
        raise ValueError(f"expected a name of letters, digits and ._+-, found {shown(value)}")
    return value


def text(value: object) -> str:
    """One line of text."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"expected one line of text, found {shown(value)}")
    return value


def queue_url(value: object) -> str:
    """Where the work is; without TLS on this machine alone."""
    found = text(value)
    if found.startswith("sqlite:") or (found.startswith("https://") and _host(found)):
        return found
    if found.startswith("http://") and _host(found) in ("localhost", "127.0.0.1", "::1"):
        return found
    if "@" in found:  # a password, which is not said again
        raise ValueError("no user or password belongs into a queue's URL: name a token's file (token_file) instead")
    raise ValueError(f"{shown(found)[5:]} is no queue: write sqlite:PATH or https://HOST:PORT")


def _host(url: str) -> str:
    """The host that a URL names; "" of one that names none, or hides a password."""
    try:
        parts = urlsplit(url)
        return "" if parts.port == 0 or "@" in parts.netloc else parts.hostname or ""
    except ValueError:
        return ""


def absolute(value: object) -> str:
    """A path; `~` is the home directory. In a file it must be absolute, for a file has no working directory."""
    path = Path(text(value)).expanduser()
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{shown(str(value))[5:]} is not an absolute path")
    return str(path)


def mountable(value: object) -> str:
    """A path that may be bound into a container, where a few characters would be taken for something else."""
    path = absolute(value)
    if any(each in path for each in ',:"\\'):
        raise ValueError(f"{shown(path)[5:]}: a path with , : quotes or backslashes cannot be bound")
    return path


def several(read: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """A list; in a variable its parts are joined by colons."""

    def read_all(value: object) -> tuple[str, ...]:
        parts = [each for each in value.split(":") if each] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValueError(f"expected a list, found {shown(value)}")
        return tuple(read(each) for each in parts)

    return read_all


def several_words(value: object) -> tuple[str, ...]:
    """A list of names; in a variable joined by commas."""
    parts = [each for each in value.split(",") if each] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError(f"expected a list, found {shown(value)}")
    return tuple(word(each) for each in parts)


def labels(value: object) -> tuple[tuple[str, Label], ...]:
    """Attributes that the node advertises; in a variable `name=value,name=value`."""
    pairs = dict(_pair(each) for each in value.split(",") if each) if isinstance(value, str) else value
    if not isinstance(pairs, Mapping):
        raise ValueError(f"expected a mapping, found {shown(value)}")
    return tuple((_attribute(name), _label(name, each)) for name, each in sorted(pairs.items()))


def prefixes(value: object) -> tuple[tuple[str, str], ...]:
    """`file://` URLs by the name of the storage that they lead to; in a variable `NAME=URL,NAME=URL`."""
    pairs = dict(_pair(each) for each in value.split(",") if each) if isinstance(value, str) else value
    if not isinstance(pairs, Mapping):
        raise ValueError(f"expected a mapping of names to URLs, found {shown(value)}")
    return tuple((word(name), _stored(url(text(each)))) for name, each in sorted(pairs.items()))


def _stored(place: str) -> str:
    """Refuses what no storage of this pilot knows: jobs would find out one by one."""
    if not place.startswith("file:///"):
        raise ValueError(f"{shown(place)[5:]}: this pilot stores in mounted file systems only: write file:///PATH")
    return place


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals:
        raise ValueError(f"{shown(item)[5:]} is no label: write name=value")
    return name.strip(), value.strip()


# Attributes that the probe tells; a label of that name would be a claim against it, and is refused.
PROBED = frozenset(
    """arch cpus disk gpus gpus_capability gpus_devicename gpus_globalmemorymb hassingularity images machine memory
    microarch name opsys requirements runtime secondsleft""".split()  # noqa: SIM905  a list of them reads worse
)


def _attribute(name: str) -> str:
    if not name.isascii() or not name.isidentifier() or len(name) > 64:
        raise ValueError(f"{shown(name)[5:]} is no name of an attribute: use letters, digits and _")
    if name.lower() in PROBED:
        raise ValueError(f"{name} is what the node itself tells: choose another name, or set cpus, memory and the like")
    return name


def _label(name: str, value: object) -> Label:
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"{name}: expected text, a number, true or false, found {shown(value)}")
    return value
