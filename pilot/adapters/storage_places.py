"""Which files of this machine a job may mean: it names paths, and the pilot could touch far more than it should."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pilot.model.faults import Code
from pilot.ports import Final

# In a home: keys, sessions, and what a shell or a scheduler runs by itself.
_PERSONAL = (
    ".ssh", ".gnupg", ".aws", ".globus", ".kube", ".docker", ".pki", ".netrc", ".config", ".local/bin", ".local/lib",
    ".profile", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".zshrc", ".zshenv", ".zprofile", ".login",
    ".cshrc", ".tcshrc", ".forward", ".k5login", ".rhosts", ".shosts", ".condor", ".git-credentials", ".npmrc",
    ".pypirc",
)  # fmt: skip
SYSTEM = tuple(map(Path, ("/etc", "/proc", "/sys", "/boot")))
PROGRAMS = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/var/spool/cron")))


@dataclass(frozen=True, slots=True)
class Permitted:
    """`readable` and `writable` are the only folders that jobs may mean, empty = anywhere but what is closed.

    `closed` is nobody's input and nobody's output, `fixed` nobody's output. Files that their owner keeps from all
    others (mode 600) are inputs only where `private` says so, or the site names their folder as readable. Of a `home`,
    names with a dot in front are nobody's output, and without `private` nobody's input, unless the site names them.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()
    private: bool = True
    home: Path | None = None

    def may_read(self, place: Path, seen: os.stat_result, url: str) -> None:
        """Raises where the file, its links followed, is not for jobs."""
        _within(self.readable, place, url, "storage_read")
        _outside(self.closed, place, url)
        if self.private or self.readable:
            return
        self._not_hidden(place, url)
        if not stat.S_IMODE(seen.st_mode) & 0o077:
            raise Final(Code.STORAGE_DENIED, f"{url}: only its owner may read it; name its folder with `storage_read`")

    def may_write(self, place: Path, url: str) -> None:
        """Raises where the file, the links before it followed, must not be made by jobs."""
        _within(self.writable, place, url, "storage_write")
        _outside(self.closed, place, url)
        if not self.writable:
            _outside(self.fixed, place, url)
            self._not_hidden(place, url)

    def _not_hidden(self, place: Path, url: str) -> None:
        """Shells, editors and schedulers read such files by themselves: there are more than anybody can list."""
        home = self.home
        if home and place.is_relative_to(home) and place != home and place.relative_to(home).parts[0].startswith("."):
            raise Final(Code.JOB_INVALID, f"{url}: it is hidden in the home of the pilot's user, and not for jobs")


def personal(home: Path) -> Iterator[Path]:
    """What in a home is never for jobs."""
    return (home / each for each in _PERSONAL)


def followed(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The places that the paths lead to."""
    return tuple(Path(os.path.realpath(each)) for each in paths)


def _within(folders: tuple[Path, ...], place: Path, url: str, key: str) -> None:
    if folders and not any(place.is_relative_to(folder) for folder in folders):
        named = ", ".join(map(str, folders))
        raise Final(Code.STORAGE_DENIED, f"{url}: this site lets jobs use only {named} (the key `{key}`)")


def _outside(closed: tuple[Path, ...], place: Path, url: str) -> None:
    if any(place.is_relative_to(each) for each in closed):
        raise Final(Code.JOB_INVALID, f"{url}: it is the pilot's own, its user's or the system's, and not for jobs")
