"""Planted mistakes: each takes something away that the promise stands on, and the drill must notice.

Planted in the child of the nursery, before the pilot's first line; the pilot's code knows nothing of it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any


def orders_before_the_journal() -> None:
    """What is written is what the turn before said: orders go out before their facts are on disk."""
    from pilot.adapters.journal_file import FileJournal

    write, late = FileJournal.write, []

    def too_late(self: FileJournal, lines: Sequence[Any], lasting: bool = True) -> None:
        write(self, late, lasting)
        late[:] = lines

    FileJournal.write = too_late  # type: ignore[method-assign]


def no_journal() -> None:
    """Nothing is written. (One line lost is no mistake that shows: every other fact of a job brings it back.)"""
    from pilot.adapters.journal_file import FileJournal

    FileJournal.write = lambda *_, **__: None  # type: ignore[method-assign]


def no_fencing() -> None:
    """Every attempt counts as the newest."""
    from pilot.queue.fate import Attempt

    Attempt.alive = property(lambda _: True)  # type: ignore[assignment,method-assign]


def no_adoption() -> None:
    """A restarted pilot knows nothing of payloads that its predecessor started."""
    from pilot.shell import payload

    named = payload.launch_of
    payload.launch_of = lambda job, step: f"{named(job, step)}.{os.getpid()}"
    payload.Payloads._adopted = lambda *_: False  # type: ignore[method-assign]


def stored_in_place() -> None:
    """An output appears under its name before it is whole."""
    from pilot.adapters import storage_file
    from pilot.failpoints import effect

    def straight(source: Any, target: Path, abandon: Callable[[], bool]) -> Any:
        target.parent.mkdir(parents=True, exist_ok=True)
        data = source.path.read_bytes()
        with target.open("xb", buffering=0) as file:
            file.write(data[:3])
            with effect("part.sync"):
                file.write(data[3:])
        return source.read(lambda _: None, abandon)

    storage_file._stored = straight


def stored_nothing() -> None:
    """Success is told of outputs that are nowhere."""
    from pilot.shell.staging import Staging

    Staging._outputs = lambda *_: ()  # type: ignore[method-assign]


def wrong_sum() -> None:
    """The checksum that is told is not that of the bytes that were stored."""
    from pilot.shell.staging import Staging

    stored = Staging._outputs

    def other(*arguments: Any) -> Any:
        return tuple(replace(each, sha256="0" * 64) for each in stored(*arguments))

    Staging._outputs = other  # type: ignore[method-assign]


def no_archive() -> None:
    """The logs are not stored as a whole."""
    from pilot.shell.staging import Staging

    Staging._archive = lambda *_: None  # type: ignore[method-assign]


def no_report() -> None:
    """The pilot believes that the queue has heard."""
    from pilot.model.facts import Acknowledged
    from pilot.shell.errands import Errands

    Errands._report = lambda _, tasks: [Acknowledged(e.order.key, e.order.ticket) for e in tasks]  # type: ignore[method-assign]


def no_sweep() -> None:
    """Sandboxes stay."""
    from pilot.model.facts import Swept
    from pilot.shell.staging import Staging

    Staging.sweep = lambda _, task: Swept(task.order.key, task.order.ticket)  # type: ignore[method-assign]


def no_stop_for_the_dead() -> None:
    """The supervisor waits for its pilot for ever: what a dead pilot started runs on."""
    from pilot.supervisor.client import Client

    begin = Client.begin.__func__  # type: ignore[attr-defined]
    Client.begin = classmethod(lambda cls, state, _: begin(cls, state, 1e6))  # type: ignore[assignment,method-assign]


def damaged_journal() -> None:
    """Lines are cut short, now and then."""
    from pilot.adapters import journal_file

    encoded, count = journal_file._encoded_line, [0]

    def cut(line: Any) -> bytes:
        count[0] += 1
        return encoded(line) if count[0] % 5 else encoded(line)[:-9] + b"\n"

    journal_file._encoded_line = cut


MISTAKES: dict[str, Callable[[], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        orders_before_the_journal, no_journal, no_fencing, no_adoption, stored_in_place, stored_nothing, wrong_sum,
        no_archive, no_report, no_sweep, no_stop_for_the_dead, damaged_journal,
    )
}  # fmt: skip


def make(name: str) -> None:
    """Plants the mistake of that name."""
    MISTAKES[name]()
