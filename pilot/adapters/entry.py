"""The first process of a payload: tells that it was reached, then becomes the payload's command."""

import os
from pathlib import Path

from pilot.adapters.beneath import clear, make_folder, opened
from pilot.failpoints import effect
from pilot.model.facts import WAITING
from pilot.model.faults import Code
from pilot.ports import Final

MARKER_FOLDER = ".pilot"
MARKER = "marker"
TERMS = ("contract.json", "inputs.json")

# POSIX sh, run as `sh -c SCRIPT pilot-entry MARKER COMMAND...`: what varies comes as arguments only.
# A failed `exec` ends dash and busybox after their EXIT trap, and lets bash go on: so a missing interpreter or a
# program for another machine is noticed by the very call that would have run it.
SCRIPT = r"""
_pilot_marker=$1
shift
found() {
    case $1 in
        -*) return 1 ;;
        */*) [ -f "$1" ] && [ -x "$1" ]; return ;;
    esac
    set -f
    IFS=:
    for _pilot_folder in $PATH; do
        [ -f "${_pilot_folder:-.}/$1" ] && [ -x "${_pilot_folder:-.}/$1" ] && return
    done
    return 1
}
missing() {
    trap - EXIT
    printf 'missing %s\n' "$1" >"$_pilot_marker"
    printf 'pilot: not there, or not to be executed: %s\n' "$1" >&2
    exit 127
}
found "$1" || missing "$1"
set +f
unset IFS _pilot_folder
trap 'missing "$1"' EXIT
[ -z "${BASH_VERSION-}" ] || shopt -s execfail
printf 'started\n' >"$_pilot_marker"
exec "$@"
missing "$1"
"""

# In a container the environment comes from a file that the script reads first: Apptainer's own --env-file is read as
# shell outside, fails on bytes that are no UTF-8, and its own variables name paths of the host.
IN_CONTAINER = ". /srv/.pilot/run/env\n" + SCRIPT
_FOREIGN = tuple(
    f"{prefix}_{name}"
    for prefix in ("APPTAINER", "SINGULARITY")
    for name in ("APPNAME", "BIND", "COMMAND", "CONTAINER", "ENVIRONMENT", "NAME", "NO_EVAL")
)


def environment_file(values: dict[str, str]) -> bytes:
    """The variables as shell assignments that give every byte back, after Apptainer's own are gone."""
    lines = [f"unset {' '.join(_FOREIGN)} PROMPT_COMMAND PS1"]
    lines += [f"export {name}={quoted(value)}" for name, value in values.items()]
    return os.fsencode("\n".join(lines) + "\n")


def quoted(value: str) -> str:
    """The value as one word of a shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def check_name(name: str) -> None:
    """Refuses a file of the job's that would take the place of one of ours."""
    if name in (MARKER_FOLDER, *TERMS):
        raise Final(Code.JOB_INVALID, f"{name!r}: the pilot writes this name itself; rename the input or code file")


def fresh_marker(work: Path) -> None:
    """A marker that says that nobody has come yet, also where an earlier payload has left something in its place.

    It is written, not left out: a payload that clears its directory must not look like one that never started.
    """
    make_folder(work, (MARKER_FOLDER,))
    with opened(work, (MARKER_FOLDER,)) as folder:
        clear(folder, MARKER)
        with effect("entry.marker"):
            descriptor = os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
            try:
                os.write(descriptor, WAITING.encode())
            finally:
                os.close(descriptor)
