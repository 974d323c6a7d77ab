"""What the service counts of itself; whoever shows numbers gives it a counter."""

from typing import Protocol


class Numbers(Protocol):
    """Told of every call and of every piece of the database thread's work; called from both threads."""

    def answered(self, call: str, status: int, seconds: float) -> None:
        """One call was answered."""

    def worked(self, kind: str, items: int, seconds: float) -> None:
        """One transaction (claim, renew, report ...) was done for so many items."""


class NoNumbers:
    """Counts nothing."""

    def answered(self, call: str, status: int, seconds: float) -> None:
        """Not counted."""

    def worked(self, kind: str, items: int, seconds: float) -> None:
        """Not counted."""
