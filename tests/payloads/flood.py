"""flood.py SECONDS [MB_PER_SECOND]: prints at that rate (200), alternately to stdout and stderr, numbered lines."""

import os
import sys
import time

seconds, rate = float(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 200.0
began, sent, number = time.monotonic(), 0, 0
while (now := time.monotonic() - began) < seconds:
    if sent > now * rate * 1e6:
        time.sleep(0.001)
        continue
    lines = b"".join(b"%015d %s\n" % (number + index, b"x" * 1007) for index in range(256))
    number += 256
    for stream in (1, 2):
        left = memoryview(lines)
        while left:
            left = left[os.write(stream, left) :]
        sent += len(lines)
os.write(1, b"last line of stdout: %d bytes were sent in all\n" % sent)
