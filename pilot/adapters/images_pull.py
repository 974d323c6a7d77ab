"""Brings images into the store: from a registry or from a file, verified before they are listed."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.images_head import HeadError, sif_arch
from pilot.adapters.images_listing import DIRECTORY, ORIGIN_LABEL, SIF, StoredImage, write
from pilot.adapters.images_manifest import bytes_below, digest, file_sha256, manifest
from pilot.adapters.images_tools import Progress, Site, apptainer, lock, remove, workplace
from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Final

_REGISTRIES = ("docker://", "oras://", "library://", "https://")
# Unpacked it takes three to four times its compressed size; half of what is free stays with the jobs.
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to bring, and where to keep it. `form`: sif, directory, both, or auto, the fastest that the disk allows."""

    reference: str
    store: Path
    apptainer: Path
    form: str = "auto"
    name: str = ""


def pull(request: PullRequest, progress: Progress) -> tuple[StoredImage, ...]:
    """The image in the form or forms asked for, the fastest first."""
    source, _, pin = request.reference.partition("@sha256:")
    name = request.name or _name(source)
    request.store.mkdir(parents=True, exist_ok=True)
    with lock(request.store / ".build"), workplace(request.store, request.apptainer, progress) as site:
        packed = site.work / "pulled.sif"
        _fetch(site, source, packed)
        sha256 = _verified(packed, source, pin)
        kept = (_unpack(site, packed, name, sha256),) if _unpacks(request, packed) else ()
        if request.form != DIRECTORY:
            kept = (*kept, _keep(site, packed, name, sha256))
    return kept


def _name(source: str) -> str:
    """Registry references keep their whole name, so that jobs find them by it; a file gives its own."""
    return source if "://" in source else Path(source).stem


def _fetch(site: Site, source: str, packed: Path) -> None:
    if source.startswith(_REGISTRIES):
        site.progress(f"{source}: pulling")
        apptainer(site, "registry", "pull", "--disable-cache", str(packed), source)
        return
    try:
        shutil.copyfile(source, packed)
    except OSError as error:
        raise Final(
            Code.IMAGE_MISSING, f"{source}: {error.strerror}; an image is a file or {_REGISTRIES[0]}..."
        ) from error


def _verified(packed: Path, source: str, pin: str) -> str:
    try:
        sif_arch(packed)
    except HeadError as problem:
        raise Final(Code.IMAGE_CORRUPT, str(problem).replace(str(packed), source)) from None
    sha256 = file_sha256(packed)
    if pin and pin != sha256:
        raise Final(Code.IMAGE_DIGEST, f"{source}: sha256 is {sha256}, wanted is {pin}")
    return sha256


def _unpacks(request: PullRequest, packed: Path) -> bool:
    if request.form == "auto":
        return packed.stat().st_size * _GROWTH < shutil.disk_usage(request.store).free / 2
    return request.form != SIF


def _place(site: Site, name: str, sha256: str, end: str) -> Path:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return site.store / f"{plain}-{sha256[:12]}{end}"


def _keep(site: Site, packed: Path, name: str, sha256: str) -> StoredImage:
    path = _place(site, name, sha256, ".sif")
    packed.chmod(0o644)
    with effect("images.keep-file"):
        os.replace(packed, path)
    return write(StoredImage(name, str(path), sha256, SIF, path.stat().st_size))


def _unpack(site: Site, packed: Path, name: str, sha256: str) -> StoredImage:
    """The same image as a directory: it starts in half the time; its manifest is its digest from now on."""
    site.progress(f"{name}: unpacking")
    root = site.work / "unpacked"
    apptainer(site, "unpacking", "build", "--fix-perms", "--sandbox", str(root), str(packed))
    text = manifest(root)
    path = _place(site, name, digest(text), ".dir")
    path.with_suffix(".manifest").write_text(text, encoding="utf-8", errors="surrogateescape")
    if path.exists():
        remove(path)
    with effect("images.keep-directory"):
        os.rename(root, path)
    labels = {ORIGIN_LABEL: sha256}
    return write(StoredImage(name, str(path), digest(text), DIRECTORY, bytes_below(path), labels))
