"""The few C parts that this small process needs, without their wrappers.

`json`, `socket` and `signal` together cost 28 ms and 2 MB at start (they draw in `re`, `enum` and `selectors`);
the C modules below them cost nothing that can be measured. Where one is missing the wrapper is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the checker knows this name; importing `typing` would cost 5 ms
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import TracebackType
else:
    import _signal as signal

__all__ = ["Quietly", "dumps", "loads", "signal"]


class _Settings:
    """What the C scanner asks of its context: the defaults of `json`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _codec() -> tuple[Callable[[str, int], tuple[object, int]], Callable[[object], str]]:
    """The C scanner and encoder, or those of `json` where the interpreter keeps them elsewhere."""
    try:
        import _json

        scan = _json.make_scanner(_Settings())  # type: ignore[arg-type]
        text = _json.encode_basestring_ascii
        encoder = _json.make_encoder(None, _refuse, text, None, ":", ",", False, False, False)
        encoder({"probe": [1]}, 0)
    except (ImportError, AttributeError, TypeError):
        import json

        return json.JSONDecoder().raw_decode, json.JSONEncoder(separators=(",", ":")).encode
    return scan, lambda value: "".join(encoder(value, 0))


_scan, dumps = _codec()


def loads(text: str) -> object:
    """Reads one JSON value; anything but exactly one is a ValueError."""
    stripped = text.strip()
    try:
        value, end = _scan(stripped, 0)
    # 3.11 says SystemError where `json.decoder` is not loaded to make the proper error
    except (StopIteration, SystemError, RecursionError, ValueError) as error:
        raise ValueError("not a JSON value") from error
    if end != len(stripped):
        raise ValueError("more than one JSON value on a line")
    return value


class Quietly:
    """Drops the named errors (`contextlib.suppress`, whose import costs 2 ms)."""

    __slots__ = ("errors",)

    def __init__(self, *errors: type[BaseException]) -> None:
        self.errors = errors

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return kind is not None and issubclass(kind, self.errors)
