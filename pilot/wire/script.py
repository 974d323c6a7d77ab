"""The shell scripts in which a translated transform runs inside the job's own container.

What PanDA's scripts do with Python outside is done here with `sh`, `tar`, `mv` and `ln`, which images have. Every
foreign word is quoted; patterns are checked, for they must stay bare.
"""

import re
from collections.abc import Iterable
from shlex import quote

from pilot.model.files import Input
from pilot.wire.envelope import WireError, shown

ARGUMENT_BYTES = 131_071  # Linux takes no longer argument
NO_RESULT = 65  # the exit code where the payload's own result cannot be read
NO_SANDBOX = 66  # the exit code where the sandbox cannot be unpacked: an input that is no good
_PATTERN = re.compile(r"[A-Za-z0-9._+=@:~/*?\[\]-]{1,1024}")
_WILD = re.compile(r"[*?\[]")

# What a job's working directory holds for the contract with the payload: nothing of the job's may take these names.
RESERVED = frozenset({"contract.json", "inputs.json", "events.jsonl", "control", "checkpoint", ".pilot"})
OURS = (".pilot", "control", "checkpoint")  # the folders among them, where a search has nothing to find


def shell(lines: Iterable[str]) -> tuple[str, ...]:
    """The command that runs those lines."""
    text = "\n".join(lines)
    if len(text.encode("utf-8", "surrogatepass")) > ARGUMENT_BYTES or "\0" in text:
        raise WireError(f"jobPars: the command is longer than the {ARGUMENT_BYTES} bytes that Linux passes on")
    return ("/bin/sh", "-c", text)


def unpack(archive: str) -> list[str]:
    """Unpacks the sandbox, which stands in `$top`, into the current directory."""
    failed = f"echo 'pilot: the sandbox {archive} cannot be unpacked' >&2; exit {NO_SANDBOX}"
    place = f'"$top"/{quote(archive)}'  # a server may have unpacked the outer layer on the way
    return [f"tar xzmf {place} 2>/dev/null || tar xmf {place} || {{ {failed}; }}"] if archive else []


def enter(folder: str) -> list[str]:
    """Changes into that folder below the present one, made where it is missing."""
    path = inner_path(folder, "-r")
    return [f"mkdir -p {quote(path)} && cd {quote(path)} || exit {NO_SANDBOX}"] if path != "." else []


def link(names: Iterable[str]) -> list[str]:
    """Makes the staged inputs visible in the current directory."""
    return [f'[ -e {quote(each)} ] || ln -s "$top"/{quote(each)} {quote(each)}' for each in names]


def write(name: str, text: str) -> list[str]:
    """Writes a small file into the current directory."""
    path = inner_path(name, "--writeInputToTxt")
    return [f"printf '%s' {quote(text)} > {quote(path)}"]


def collect(outputs: dict[str, str], deep: bool = False) -> list[str]:
    """Moves or packs what the payload wrote to the names under which PanDA knows it; `deep` looks into folders too."""
    return [each for old, new in outputs.items() for each in _collect_one(old, new, deep)]


def pack(old: str, new: str) -> list[str]:
    """Packs a file or folder, where it is there, as an output."""
    path = inner_path(old, "--outMetricsFile")
    return [f'[ -e {quote(path)} ] && tar czf "$top"/{quote(new)} {quote(path)}']


def _collect_one(old: str, new: str, deep: bool) -> list[str]:
    target = f'"$top"/{quote(new)}'
    if not _PATTERN.fullmatch(old) or old.startswith(("-", "/")) or ".." in old.split("/"):
        raise WireError(f"-o: the output {shown(old)} is no name and no pattern below the working directory")
    if _WILD.search(old):
        return _pack_matches(old, target, deep)
    found = f"[ -e {quote(old)} ] && {{ [ {quote(old)} -ef {target} ] || mv {quote(old)} {target}; }}"
    if not deep or "/" in old:
        return [found]
    return [f"{found} || find . -type f -name {quote(old)} -exec mv {{}} {target} ';'"]


def _pack_matches(pattern: str, target: str, deep: bool) -> list[str]:
    """One archive of all that matches, and of nothing none: the output is missing. A tar that fails fails the job."""
    broken = f"{{ rm -f {target}; [ $status -ne 0 ] || status={NO_RESULT}; }}"
    if deep and "/" not in pattern:
        ours = " ".join(f"! -path './{each}/*'" for each in OURS)
        found = f"found=$(find . -type f -name {quote(pattern)} {ours})"
        return [found, f"""[ -z "$found" ] || printf '%s\\n' "$found" | tar czf {target} -T - || {broken}"""]
    return [f"set -- {pattern}", f'[ ! -e "$1" ] || tar czf {target} -- "$@" || {broken}']


def inner_path(said: str, where: str) -> str:
    """A path below the working directory."""
    parts = [each for each in said.split("/") if each not in ("", ".")]
    if said.startswith(("/", "-")) or ".." in parts or "\0" in said:
        raise WireError(f"{where}: {shown(said)} is no path below the working directory")
    if parts and parts[0] in RESERVED:
        raise WireError(f"{where}: {shown(said)} is taken by the contract with the payload")
    return "/".join(parts) or "."


def sandbox_input(source: str, archive: str) -> Input:
    """The user's own files, as the server's cache holds them."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,250}", archive):
        raise WireError(f"-a: {shown(archive)} is no name of a sandbox")
    if not re.fullmatch(r"https://[A-Za-z0-9.\-]+(:[0-9]{1,5})?/?|https://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?/?", source):
        raise WireError(
            f"--sourceURL: {shown(source)}: a sandbox is fetched over https only, written https://HOST:PORT"
        )
    return Input(f"{source.rstrip('/')}/cache/{archive}", archive)
