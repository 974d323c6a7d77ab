"""A file that becomes visible whole or not at all."""

import errno
import os
import secrets
from pathlib import Path
from types import TracebackType

from pilot.failpoints import effect

# What kernels and file systems say that know no nameless files (NFS, FUSE, old overlays).
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_RENAME_NOREPLACE = 1


class PartFile:
    """A file being written in `directory`; it has no name until `publish`, where the file system can do that.

    So a killed pilot leaves nothing behind. Elsewhere it bears a hidden temporary name, removed on the way out.
    """

    __slots__ = ("_temporary", "directory", "fd")

    def __init__(self, directory: Path, mode: int) -> None:
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._temporary = ""
        try:
            self.fd = self._open(mode)
        except OSError:
            os.close(self.directory)
            raise

    def _open(self, mode: int) -> int:
        try:
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=self.directory)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
        name = f".part-{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, mode, dir_fd=self.directory)
        self._temporary = name
        return descriptor

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)
        try:
            self._remove_temporary()
        finally:
            os.close(self.directory)

    def _remove_temporary(self) -> None:
        if self._temporary:
            os.unlink(self._temporary, dir_fd=self.directory)
            self._temporary = ""

    def sync(self) -> None:
        """The bytes are on disk when this returns."""
        with effect("part.sync"):
            os.fsync(self.fd)

    def sync_directory(self) -> None:
        """The name is on disk when this returns."""
        with effect("part.sync-directory"):
            os.fsync(self.directory)

    def publish(self, name: str) -> None:
        """Gives the file its name; FileExistsError if that is taken."""
        if self._temporary:
            self._publish_temporary(name)
            return
        with effect("part.publish"):
            # With a directory's descriptor given, link(2) becomes linkat(2), which follows the magic link.
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self.directory)

    def _publish_temporary(self, name: str) -> None:
        try:
            with effect("part.publish-named"):
                os.link(self._temporary, name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _rename_new(self.directory, self._temporary, name)
            self._temporary = ""

    def replace(self, name: str) -> None:
        """Gives the file its name, in place of an older file of that name."""
        try:
            self.publish(name)
        except FileExistsError:
            with effect("part.displace"):
                os.unlink(name, dir_fd=self.directory)
            self.publish(name)


def _rename_new(directory: int, old: str, new: str) -> None:
    """Renames only if the new name is free, on file systems without hard links."""
    import ctypes  # late: it costs memory and milliseconds, and few file systems need it

    libc = ctypes.CDLL(None, use_errno=True)
    with effect("part.rename"):
        failed = libc.renameat2(directory, os.fsencode(old), directory, os.fsencode(new), _RENAME_NOREPLACE)
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)
