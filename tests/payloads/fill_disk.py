"""fill_disk.py DIRECTORY [LIMIT_MIB]: writes until the disk is full (or the limit, so that a test harms nobody).

Exits 0 when the limit was reached, 1 with ENOSPC or EDQUOT on stderr when the disk was full.
"""

import os
import sys

directory, limit = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 20
block = os.urandom(1 << 20)
with open(os.path.join(directory, "filler"), "wb", buffering=0) as file:
    for _ in range(limit):
        left = block
        while left:
            left = left[file.write(left) :]
print(f"wrote {limit} MiB and nobody stopped me")
