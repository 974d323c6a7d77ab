"""Looks into running jobs: asked once, or again and again while somebody follows."""

from pilot.ports import Beat, BeatReply
from pilot.queue.service.questions import FOLLOWED_SECONDS, Questions


class Bed:
    def __init__(self) -> None:
        self.now = 1000.0
        self.questions = Questions(lambda: self.now)

    def beat(self, answer: str = "", attempt: int = 1) -> str:
        """What the pilot is asked in return."""
        beat = Beat("j", attempt, "running", "", answer=answer)
        [reply] = self.questions.along([beat], [BeatReply("j", attempt, True, 60.0)])
        return reply.question


def test_a_question_is_asked_until_it_is_answered_and_then_no_more() -> None:
    bed = Bed()
    assert bed.beat() == ""
    bed.questions.ask("j", "ps")
    assert [bed.beat(), bed.beat()] == ["ps", "ps"]
    assert bed.beat("1 sh") == ""
    assert bed.questions.answer("j").answer == "1 sh"


def test_a_log_that_is_followed_is_asked_for_again_in_other_words_with_each_answer() -> None:
    bed = Bed()
    bed.questions.ask("j", "tail stdout 100")
    asked = [bed.beat()]
    for line in ("a", "b", "c"):
        bed.now += 1
        asked.append(bed.beat(line))
        found = bed.questions.answer("j")
        assert (found.question, found.answer) == ("tail stdout 100", line)
    assert asked == ["tail stdout 100", "tail stdout 101", "tail stdout 100", "tail stdout 101"]


def test_nobody_is_asked_for_a_log_that_nobody_follows() -> None:
    bed = Bed()
    bed.questions.ask("j", "tail stdout 100")
    bed.beat()
    bed.now += FOLLOWED_SECONDS + 1
    assert bed.beat("a") == ""
    assert bed.questions.answer("j").answer == "a"
    assert bed.beat() == "tail stdout 101"  # somebody is there again


def test_the_next_attempt_is_asked_too() -> None:
    bed = Bed()
    bed.questions.ask("j", "tail stdout 100")
    bed.beat()
    assert bed.beat("an answer to somebody else", attempt=2) == "tail stdout 100"
