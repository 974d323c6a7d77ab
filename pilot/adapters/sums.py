"""Size and checksums of the bytes that pass by."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator

BLOCK_BYTES = 1 << 20
# From here on a second thread pays for itself: sha256 is what takes longest, and lets go of the interpreter's lock.
_WORTH_A_THREAD_BYTES = 8 << 20

Write = Callable[[memoryview], None]


class Sums:
    """Size, adler32 and sha256, block by block."""

    __slots__ = ("_adler", "_sha", "size")

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._adler = 1
        self.size = 0

    def copy(self, descriptor: int, write: Write) -> Iterator[int]:
        """Sums up the file and writes it elsewhere; gives the size so far after each block."""
        if os.fstat(descriptor).st_size < _WORTH_A_THREAD_BYTES:
            for block in blocks(descriptor):
                self._sha.update(block)
                yield self._rest(block, write)
            return
        from concurrent.futures import ThreadPoolExecutor  # late: small files never need it

        with ThreadPoolExecutor(1, "sha256") as beside:
            for block in blocks(descriptor):
                hashed = beside.submit(self._sha.update, block)
                try:
                    size = self._rest(block, write)
                finally:
                    hashed.result()  # the block's buffer is used again
                yield size

    def _rest(self, block: memoryview, write: Write) -> int:
        self._adler = zlib.adler32(block, self._adler)
        write(block)
        self.size += len(block)
        return self.size

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
