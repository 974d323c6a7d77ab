"""Planted mistakes."""


def make(name: str) -> None:
    """Plants it."""
