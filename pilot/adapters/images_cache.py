"""The images of this node: found by name, path or digest, verified before anything runs in them."""

import fcntl
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from pilot.adapters.images_checked import Checked, Receipts
from pilot.adapters.images_head import HeadError, directory_arch, runs_here, sif_arch
from pilot.adapters.images_listing import DIRECTORY, SIF, StoredImage, listed, mark_used
from pilot.model.capability import ImageAtHand
from pilot.model.faults import Code
from pilot.model.files import ImageUsed
from pilot.ports import Final

_CVMFS = "/cvmfs/"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    """`store` is ours to write, `more` may be read-only; `receipts` is where digests are remembered.

    Where `roots` are given, an image that is named by its path must lie in a store or below one of them.
    """

    def __init__(self, store: Path, more: Sequence[Path], receipts: Path, roots: Sequence[Path] = ()) -> None:
        self._stores = (store, *more)
        self._roots = tuple(each.resolve() for each in (*self._stores, *roots)) if roots else ()
        self._receipts = Receipts(receipts / "images")
        self._lock = threading.Lock()  # two jobs of one image must not both read all of it
        self._held: dict[str, int] = {}

    def at_hand(self) -> Sequence[ImageAtHand]:
        """What is listed here, without verifying."""
        return [ImageAtHand(each.name, each.path, each.sha256, each.form, each.bytes) for each in self.listed()]

    def listed(self) -> list[StoredImage]:
        """What the stores say of themselves."""
        return listed(self._stores)

    def resolve(self, reference: str, sha256: str) -> ImageUsed:
        """The image meant, verified, in the fastest form; from now on this process holds it against eviction."""
        name, pin = _pinned(reference, sha256)
        with self._lock:
            image = self._find(name, pin)
            self._hold(image)
            seen = self._verify(image, pin)
        return ImageUsed(reference, image.path, pin or seen.sha256, image.form, seen.how)

    def verify(self, reference: str) -> ImageUsed:
        """The same with every byte read again, whatever a receipt says."""
        image = self._find(*_pinned(reference, ""))
        self._receipts.forget(Path(image.path))
        return self.resolve(reference, "")

    def vouch(self, image: StoredImage) -> None:
        """Takes the digest of an image that was made a moment ago for known, so that its first job need not wait."""
        self._receipts.vouch(Path(image.path), image.sha256)

    def close(self) -> None:
        """Holds nothing any more."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    # --- finding --------------------------------------------------------------------------------------------

    def _find(self, name: str, pin: str) -> StoredImage:
        if name.startswith("/"):
            return self._by_path(name)
        named = [each for each in self.listed() if each.name == name]
        fit = [each for each in named if not pin or pin in (each.sha256, each.origin)]
        if named and not fit:
            here = ", ".join(sorted({each.sha256[:12] for each in named}))
            raise Final(Code.IMAGE_DIGEST, f"{name}: sha256 {pin[:12]}... is wanted, here are {here}")
        if fit:
            return _fastest(fit)
        return self._unlisted(name)

    def _by_path(self, path: str) -> StoredImage:
        known = next((each for each in self.listed() if os.path.abspath(path) == os.path.abspath(each.path)), None)
        if known is not None:
            return known
        if not os.path.exists(path):
            raise Final(Code.IMAGE_MISSING, f"{path}: no such image on this node")
        real = Path(path).resolve()
        if self._roots and not any(real.is_relative_to(each) for each in self._roots):
            raise Final(
                Code.JOB_INVALID, f"{path}: jobs of this queue may name images of the node's stores and of /cvmfs"
            )
        if real.is_dir() and any(store.resolve().is_relative_to(real) for store in self._stores):
            raise Final(Code.JOB_INVALID, f"{path}: a directory that holds the image store is no image")
        form = DIRECTORY if os.path.isdir(path) else SIF
        return StoredImage(os.path.basename(path), path, "", form)

    def _unlisted(self, name: str) -> StoredImage:
        """A plain NAME.sif or directory NAME that somebody put into a store, or nothing."""
        if "://" in name:
            raise Final(Code.IMAGE_MISSING, f"{name}: it is not on this node; run `pilot image pull {name}` first")
        for store in self._stores:
            for path in (store / f"{name}.dir", store / name, store / f"{name}.sif"):
                if path.exists():
                    return self._by_path(str(path))
        where = ", ".join(map(str, self._stores))
        raise Final(Code.IMAGE_MISSING, f"{name}: no such image in {where}; `pilot image ls` shows what is here")

    def _hold(self, image: StoredImage) -> None:
        """A shared lock on the image itself, which `pilot image gc` respects."""
        if image.path in self._held:
            return
        try:
            descriptor = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Final(Code.IMAGE_MISSING, f"{image.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Final(Code.IMAGE_MISSING, f"{image.path}: it is just being removed") from None
        except OSError:
            pass  # a file system without locks (CVMFS): nothing is evicted there either
        self._held[image.path] = descriptor
        if image.sha256:
            mark_used(image)

    # --- verifying ------------------------------------------------------------------------------------------

    def _verify(self, image: StoredImage, pin: str) -> Checked:
        path = Path(image.path)
        try:
            arch = directory_arch(path) if image.form == DIRECTORY else sif_arch(path)
            seen = self._checked(path, image.form)
        except HeadError as problem:
            raise Final(Code.IMAGE_CORRUPT, str(problem)) from None
        except OSError as error:
            raise Final(Code.IMAGE_CORRUPT, f"{error.filename or path}: {error.strerror}") from error
        _compare(image, pin, seen)
        if not runs_here(arch):
            raise Final(Code.IMAGE_UNFIT, f"{path}: it is for {arch}, this node is {os.uname().machine}")
        return seen

    def _checked(self, path: Path, form: str) -> Checked:
        if str(path).startswith(_CVMFS):
            # CVMFS itself verifies each file by its digest as it is read, and names flat images by theirs.
            named = os.path.basename(os.path.realpath(path))
            return Checked(named if _DIGEST.fullmatch(named) else "", "none")
        return self._receipts.directory(path) if form == DIRECTORY else self._receipts.file(path)


def _compare(image: StoredImage, pin: str, seen: Checked) -> None:
    """What it should be by its own listing first: a damaged image is not the job's fault."""
    listed_as = image.sha256 or (seen.before if seen.before == pin else "")
    if listed_as and seen.sha256 != listed_as:
        raise Final(
            Code.IMAGE_CORRUPT, f"{image.path}: sha256 is {seen.sha256[:12]}..., it should be {listed_as[:12]}..."
        )
    if pin and pin not in (seen.sha256, image.origin):
        raise Final(Code.IMAGE_DIGEST, f"{image.path}: sha256 is {seen.sha256[:12]}..., the job pins {pin[:12]}...")


def _fastest(images: list[StoredImage]) -> StoredImage:
    """The newest build, as a directory where it is here in both forms."""
    newest = images[0]
    return next((each for each in images if each.form == DIRECTORY and _same(each, newest)), newest)


def _same(one: StoredImage, other: StoredImage) -> bool:
    same_build = bool(one.recipe) and one.recipe == other.recipe
    return one.sha256 == other.sha256 or same_build or other.sha256 == one.origin


def _pinned(reference: str, sha256: str) -> tuple[str, str]:
    """Name and digest of a reference such as `ml-base@sha256:...`."""
    name, _, written = reference.partition("@sha256:")
    pins = {each.lower() for each in (written, sha256) if each}
    if len(pins) > 1:
        raise Final(Code.IMAGE_DIGEST, f"{reference}: the job pins two different digests")
    pin = pins.pop() if pins else ""
    if pin and not _DIGEST.fullmatch(pin):
        raise Final(Code.JOB_INVALID, f"{reference}: a sha256 has 64 hexadecimal digits")
    return name, pin
