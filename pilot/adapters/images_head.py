"""What an image's first bytes say: whether it is whole, and for which processor."""

import os
import stat
import struct
from pathlib import Path

from pilot.adapters.beneath import EscapeError, resolve

# The head of a SIF: a line for shells, magic, version, architecture, id, and eight numbers, of which the last two say
# where the data begins and how long it is.
_HEAD = struct.Struct("<32s10s3s3s16s8q")
_MAGIC = b"SIF_MAGIC\0"
_SIF_ARCH = {b"01": "i386", b"02": "x86_64", b"03": "arm", b"04": "aarch64", b"06": "ppc64le", b"11": "s390x"}
_ELF_ARCH = {3: "i386", 62: "x86_64", 40: "arm", 183: "aarch64", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
_ALSO_RUNS = {"x86_64": ("i386",), "aarch64": ()}
_ROOT = ("",)  # inside an image, an absolute link starts at the image


class HeadError(Exception):
    """The image is not whole, or none; the text says what is wrong."""


def sif_arch(path: Path) -> str:
    """The architecture that a SIF says it is for ("" = it does not say); raises HeadError where it is cut short."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        size = os.fstat(file.fileno()).st_size
    if len(head) < _HEAD.size or head[32:42] != _MAGIC:
        raise HeadError(f"{path}: it is no image in SIF form")
    _, _, _, arch, _, *numbers = _HEAD.unpack(head)
    needed = numbers[-2] + numbers[-1]
    if size < needed:
        raise HeadError(f"{path}: it is cut short: {size} bytes of {needed}")
    return _SIF_ARCH.get(arch.rstrip(b"\0"), "")


def directory_arch(root: Path) -> str:
    """The architecture of the image's shell, which every payload is started by."""
    try:
        found = resolve(root, "bin/sh", _ROOT)
    except (OSError, EscapeError):
        raise HeadError(f"{root}: it has no /bin/sh, which the pilot starts payloads with") from None
    if not stat.S_ISREG(found.stat.st_mode):
        raise HeadError(f"{root}: its /bin/sh is no file")
    with root.joinpath(*found.parts).open("rb") as file:
        head = file.read(20)
    return _ELF_ARCH.get(int.from_bytes(head[18:20], "little"), "") if head.startswith(b"\x7fELF") else ""


def runs_here(arch: str) -> bool:
    """Whether this node's processor runs it; an image that does not say is tried."""
    here = os.uname().machine
    return arch in ("", here, *_ALSO_RUNS.get(here, ()))
