"""Which nodes and GPUs PanDA's clients have told of: enough to answer as its server does."""

KNOWN = 10_000


class Nodes:
    """Rows by what makes them one; the oldest go first."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], None] = {}

    def add(self, row: tuple[str, ...]) -> bool:
        """Notes the row; whether it is new."""
        new = row not in self._known
        self._known[row] = None
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        return new
