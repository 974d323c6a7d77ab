"""What the log says of a queue that does not answer, and what a pilot that leaves then knows."""

from pilot.model.faults import Code
from pilot.shell.contact import FIRST_PAUSE, Contact


class Bed:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[tuple[float, str]] = []
        self.contact = Contact(lambda event, _: self.told.append((self.now, event)), lambda: self.now)

    def fail(self, code: Code = Code.SERVER_UNREACHABLE) -> None:
        self.contact.failed("look failed", "connection refused", code)


def test_trouble_is_told_at_once_then_ever_more_seldom_and_its_end_once() -> None:
    bed = Bed()
    for bed.now in range(600):
        bed.fail()
    assert [at for at, _ in bed.told] == [0, FIRST_PAUSE, 3 * FIRST_PAUSE, 7 * FIRST_PAUSE]
    assert bed.contact.trouble is not None
    bed.contact.answered()
    bed.contact.answered()
    assert [event for _, event in bed.told[4:]] == ["server back"]
    assert bed.contact.trouble is None
    bed.fail()
    assert len(bed.told) == 6


def test_another_trouble_is_told_at_once() -> None:
    bed = Bed()
    bed.fail()
    bed.fail(Code.CREDENTIAL_EXPIRED)
    assert len(bed.told) == 2
    assert bed.contact.trouble is not None
    assert bed.contact.trouble.code is Code.CREDENTIAL_EXPIRED
