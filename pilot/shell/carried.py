"""The job's own code, carried by the queue: asked for with patience."""

from pilot.core.timing import delay
from pilot.model.files import CodePack
from pilot.ports import Passing, Server
from pilot.shell.crew import Task

TRIES = 8  # of a queue that does not answer: together longer than an outage within the usual lease
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds
_EVEN = 0.5  # pilots that fetch code started at different moments: nothing is to be spread


def archive(server: Server, pack: CodePack, task: Task) -> bytes:
    """A queue that is away for a moment is asked again: the job is not to blame, and is not to pay for it."""
    for tried in range(TRIES - 1):
        try:
            return server.code(pack)
        except Passing:
            if task.abandoned():
                raise
            task.given_up.wait(delay(tried, FIRST_PAUSE, LONGEST_PAUSE, _EVEN))
    return server.code(pack)
