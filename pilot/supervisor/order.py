"""What a payload's start must say, checked once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message


class Order:
    """One payload to be started (a plain class: `dataclasses` would cost this process 10 ms)."""

    __slots__ = (
        "argv",
        "cwd",
        "directory",
        "env",
        "grace",
        "group",
        "head_bytes",
        "payload",
        "stderr",
        "stdout",
        "tail_bytes",
    )

    def __init__(self, message: Message) -> None:
        self.payload = _text(message, "id")
        self.argv = _texts(message, "argv")
        self.env = _environment(message)
        self.cwd = _path(message, "cwd")
        self.directory = _path(message, "directory")
        self.stdout = _path(message, "stdout")
        self.stderr = _path(message, "stderr")
        self.head_bytes = int(_number(message, "head_bytes"))
        self.tail_bytes = int(_number(message, "tail_bytes"))
        self.grace = _number(message, "grace")
        # Whether TERM and notices go to the whole process group, or to the main process alone.
        self.group = message.get("group", True) is True


def _text(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{key}: a text without NUL is needed")
    return value


def _path(message: Message, key: str) -> str:
    value = _text(message, key)
    if not value.startswith("/"):
        raise ValueError(f"{key}: an absolute path is needed")
    return value


def _texts(message: Message, key: str) -> list[str]:
    value = message.get(key)
    if not isinstance(value, list) or not value or not value[0]:
        raise ValueError(f"{key}: a list of texts is needed")
    if not all(isinstance(item, str) and "\0" not in item for item in value):
        raise ValueError(f"{key}: texts without NUL are needed")
    return value


def _environment(message: Message) -> dict[str, str]:
    value = message.get("env")
    if not isinstance(value, dict):
        raise ValueError("env: a table of texts is needed")
    for name, text in value.items():
        if not isinstance(text, str) or not name or "=" in name or "\0" in name + text:
            raise ValueError(f"env: {name!r} is no valid entry")
    return value


def _number(message: Message, key: str) -> float:
    value = message.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e15:
        raise ValueError(f"{key}: a number, zero or more, is needed")
    return value
