"""Texts that others wrote, cut to what a page or a label can bear."""

from pilot.core.reporting import clean


def cut(text: str, letters: int) -> str:
    """The text without control characters, and no longer than that; where something is missing, an ellipsis says so."""
    plain = clean(text)
    return plain if len(plain) <= letters else f"{plain[: letters - 1]}…"
