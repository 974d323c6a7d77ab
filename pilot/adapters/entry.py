"""The first process of a payload: tells that it was reached, then becomes the payload's command."""

from pathlib import Path

from pilot.adapters.beneath import clear, make_folder, opened

MARKER_FOLDER = ".pilot"
MARKER = "marker"

# POSIX sh, run as `sh -c SCRIPT pilot-entry MARKER COMMAND...`: what varies comes as arguments only.
# A failed `exec` ends dash and busybox after their EXIT trap, and lets bash go on: so a missing interpreter or a
# program for another machine is noticed by the very call that would have run it.
SCRIPT = r"""
marker=$1
shift
found() {
    case $1 in
        -*) return 1 ;;
        */*) [ -f "$1" ] && [ -x "$1" ]; return ;;
    esac
    set -f
    IFS=:
    for folder in $PATH; do
        [ -f "${folder:-.}/$1" ] && [ -x "${folder:-.}/$1" ] && return
    done
    return 1
}
missing() {
    trap - EXIT
    printf 'missing %s\n' "$1" >"$marker"
    printf 'pilot: not there, or not to be executed: %s\n' "$1" >&2
    exit 127
}
found "$1" || missing "$1"
set +f
unset IFS folder
trap 'missing "$1"' EXIT
[ -z "${BASH_VERSION-}" ] || shopt -s execfail
printf 'started\n' >"$marker"
exec "$@"
missing "$1"
"""


def fresh_marker(work: Path) -> None:
    """An empty folder for the marker, also where an earlier payload has left something in its place."""
    make_folder(work, (MARKER_FOLDER,))
    with opened(work, (MARKER_FOLDER,)) as folder:
        clear(folder, MARKER)
