"""Who of this machine may open a served queue's file past the service, its tokens and its roles.

SQLite gives the files beside a database (`-wal`, `-shm`, `-journal`) the database's own mode; those that are there
already keep theirs, so each is looked at.
"""

import stat
from pathlib import Path

from pilot.model.faults import Code
from pilot.ports import Final

OWN = 0o600
READ, WRITE = 0o044, 0o022
ENDINGS = ("", "-wal", "-shm", "-journal")


def keep_private(path: Path) -> list[str]:
    """Takes from others what a usual umask gave them; what was given to them on purpose is refused in one line.

    Gives what there is to say: what was changed, and advice where others may put another file in its place.
    """
    there = [each for ending in ENDINGS if (each := path.with_name(path.name + ending)).exists()]
    shared = [each for each in there if each.stat().st_mode & WRITE]
    if shared:
        names = " ".join(str(each) for each in there)
        advice = f"chmod 600 {names}, or serve it so with --shared-file"
        raise Final(Code.SERVER_REFUSED, f"{shared[0]}: others may write it, past all tokens and roles; {advice}")
    said = [_taken(each) for each in there if each.stat().st_mode & READ]
    return [*said, *_folder(path.absolute().parent)]


def _taken(path: Path) -> str:
    try:
        path.chmod(OWN)
    except OSError as problem:
        line = f"{path}: others may read it, past all tokens and roles, and its mode cannot be changed"
        raise Final(Code.SERVER_REFUSED, f"{line} ({problem.strerror}); its owner: chmod 600 {path}") from problem
    return f"{path}: others could read it, past all tokens and roles; it is its owner's alone now (chmod 600)"


def _folder(folder: Path) -> list[str]:
    mode = folder.stat().st_mode
    if not mode & WRITE or mode & stat.S_ISVTX:
        return []
    return [f"{folder}: others may write there, and so put another file in the queue's place; chmod 700 {folder}"]
