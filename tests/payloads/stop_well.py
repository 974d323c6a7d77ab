"""Works until SIGTERM, then finishes its output and exits 0: a payload that ends well while stopped has succeeded."""

import signal
import sys
import time
from types import FrameType


def finish(_number: int, _frame: FrameType | None) -> None:
    with open("output.txt", "w") as file:
        file.write("finished in time\n")
    sys.exit(0)


signal.signal(signal.SIGTERM, finish)
print("ready", flush=True)
while True:
    time.sleep(60)
