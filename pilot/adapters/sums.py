"""Size and checksums of the bytes that pass by."""

import hashlib
import os
import zlib
from collections.abc import Iterator

# One block stays in the second-level cache between the copy and both checksums.
BLOCK_BYTES = 1 << 20


class Sums:
    """Size, adler32 and sha256, block by block."""

    __slots__ = ("_adler", "_sha", "size")

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._adler = 1
        self.size = 0

    def add(self, block: memoryview) -> None:
        """Counts one block."""
        self._sha.update(block)
        self._adler = zlib.adler32(block, self._adler)
        self.size += len(block)

    @property
    def adler32(self) -> str:
        """As eight hexadecimal digits."""
        return f"{self._adler:08x}"

    @property
    def sha256(self) -> str:
        """As sixty-four hexadecimal digits."""
        return self._sha.hexdigest()


def blocks(descriptor: int) -> Iterator[memoryview]:
    """The file from its beginning to its end; each block is gone when the next is asked for."""
    # One byte more than the file: a small one is read in one go, and its end seen in the next.
    buffer = memoryview(bytearray(min(BLOCK_BYTES, os.fstat(descriptor).st_size + 1)))
    offset = 0
    while count := os.preadv(descriptor, [buffer], offset):
        yield buffer[:count]
        offset += count


def adler32(descriptor: int) -> str:
    """The adler32 of an open file."""
    value = 1
    for block in blocks(descriptor):
        value = zlib.adler32(block, value)
    return f"{value:08x}"
