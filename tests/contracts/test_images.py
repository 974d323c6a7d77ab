"""The `Images` port: found, verified before anything runs, in the fastest form; damaged ones named by whose fault."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pilot.adapters.images_cache import ImageStore
from pilot.adapters.images_checked import manifest_sha256
from pilot.adapters.images_gc import Marks, collect
from pilot.adapters.images_listing import DIRECTORY, ORIGIN_LABEL, SIF, StoredImage, listed, note_of, write
from pilot.model.faults import Code
from pilot.ports import Final, PortError

TREE = Path(__file__).parents[2]
HEAD = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0"


def sif(path: Path, arch: bytes = b"02\0", data: bytes = b"squashed" * 1000) -> Path:
    """A file with the head of a SIF; nothing here is ever mounted."""
    numbers = [0, 0, 1, 1, 128, 0, 128, len(data)]
    head = HEAD + arch + b"i" * 16 + b"".join(each.to_bytes(8, "little") for each in numbers)
    path.write_bytes(head + data)
    return path


def directory(path: Path) -> Path:
    """An unpacked image, as small as one can be."""
    (path / "bin").mkdir(parents=True)
    shutil.copy("/bin/sh", path / "bin" / "dash")
    (path / "bin" / "sh").symlink_to("/bin/dash")
    (path / "lib").mkdir()
    (path / "lib" / "module.py").write_text("import this\n")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def images(store: Path, tmp_path: Path) -> ImageStore:
    return ImageStore(store, (), tmp_path / "receipts")


def again(tmp_path: Path) -> ImageStore:
    """The next pilot on this node."""
    return ImageStore(tmp_path / "store", (), tmp_path / "receipts")


def keep_sif(store: Path, name: str = "ml-base", **changes: object) -> StoredImage:
    path = sif(store / f"{name}-0.sif", data=os.urandom(5000))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    final = path.rename(store / f"{name}-{sha256[:12]}.sif")
    return write(replace(StoredImage(name, str(final), sha256, SIF, final.stat().st_size), **changes))  # type: ignore[arg-type]


def keep_directory(store: Path, name: str = "ml-base", **changes: object) -> StoredImage:
    path = directory(store / f"{name}-1.dir")
    return write(replace(StoredImage(name, str(path), manifest_sha256(path), DIRECTORY, 1000), **changes))  # type: ignore[arg-type]


def refusal(action: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(PortError) as caught:
        action()
    assert isinstance(caught.value, Final)
    assert "\n" not in caught.value.fault.detail
    return caught.value.fault.code, caught.value.fault.detail


# --- finding --------------------------------------------------------------------------------------------------------


def test_by_name_by_path_and_by_digest(images: ImageStore, store: Path) -> None:
    kept = keep_sif(store)
    for reference in ("ml-base", kept.path, f"ml-base@sha256:{kept.sha256}", f"{kept.path}@sha256:{kept.sha256}"):
        used = images.resolve(reference, "")
        assert (used.path, used.sha256, used.form, used.reference) == (kept.path, kept.sha256, "sif", reference)
    assert images.resolve("ml-base", kept.sha256).path == kept.path


@pytest.mark.parametrize("reference", ["ml-base", "/no/such.sif", "docker://python:3.12", "oras://host/x", "../x"])
def test_what_is_not_here(images: ImageStore, reference: str) -> None:
    code, detail = refusal(lambda: images.resolve(reference, ""))
    assert (code, reference in detail) == (Code.IMAGE_MISSING, True)
    assert ("pilot image pull" in detail) == ("://" in reference)


def test_a_registry_reference_is_found_once_it_was_pulled(images: ImageStore, store: Path) -> None:
    kept = write(replace(keep_sif(store, "python"), name="docker://python:3.12"))
    assert images.resolve("docker://python:3.12", "").path == kept.path


def test_the_fastest_form_of_the_newest_build(images: ImageStore, store: Path) -> None:
    packed = keep_sif(store)
    assert images.resolve("ml-base", "").form == "sif"
    unpacked = keep_directory(store, labels={ORIGIN_LABEL: packed.sha256})
    used = images.resolve("ml-base", "")
    assert (used.form, used.sha256, used.verified) == ("directory", unpacked.sha256, "unpacked")
    pinned = images.resolve("ml-base", packed.sha256)
    assert (pinned.form, pinned.sha256) == ("directory", packed.sha256)
    time.sleep(0.01)
    newer = keep_sif(store)
    assert images.resolve("ml-base", "").path == newer.path


def test_both_forms_of_one_build_are_one_image(images: ImageStore, store: Path) -> None:
    keep_directory(store, recipe="r1")
    time.sleep(0.01)
    keep_sif(store, recipe="r1")
    assert images.resolve("ml-base", "").form == "directory"


def test_further_stores_may_be_read_only_or_away(store: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    kept = keep_sif(site)
    sif(site / "plain.sif")
    for each in (site, *site.iterdir()):
        each.chmod(each.stat().st_mode & 0o555)
    images = ImageStore(store, (site, tmp_path / "not-mounted"), tmp_path / "receipts")
    assert images.resolve("ml-base", "").path == kept.path
    assert images.resolve("plain", "").path == str(site / "plain.sif")
    assert [(each.name, each.form) for each in images.at_hand()] == [("ml-base", "sif")]
    site.chmod(0o755)


def test_a_store_may_be_copied_elsewhere(images: ImageStore, store: Path, tmp_path: Path) -> None:
    kept = keep_sif(store)
    shutil.copytree(store, tmp_path / "copy")
    moved = ImageStore(tmp_path / "copy", (), tmp_path / "receipts").resolve("ml-base", "")
    assert moved.path == str(tmp_path / "copy" / Path(kept.path).name)


@pytest.mark.parametrize("note", ["", "{", "[]", '{"name": 1}', '{"path": "x", "surprise": 1}'])
def test_a_broken_note_hides_its_image_and_no_other(images: ImageStore, store: Path, note: str) -> None:
    kept = keep_sif(store)
    (store / "broken.json").write_text(note)
    assert [each.path for each in images.at_hand()] == [kept.path]


# --- verifying ------------------------------------------------------------------------------------------------------


def test_all_bytes_are_read_once_and_then_a_receipt_counts(images: ImageStore, store: Path, tmp_path: Path) -> None:
    keep_sif(store)
    assert [images.resolve("ml-base", "").verified for _ in range(2)] == ["file", "receipt"]
    assert again(tmp_path).resolve("ml-base", "").verified == "receipt"
    assert again(tmp_path).verify("ml-base").verified == "file"


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("known", [True, False], ids=["with-receipt", "first-look"])
@pytest.mark.parametrize("damage", ["flip", "flip-times-put-back", "truncate", "grow", "junk", "empty"])
def test_a_damaged_sif_is_named_before_anything_runs(
    store: Path, tmp_path: Path, pinned: bool, known: bool, damage: str
) -> None:
    kept = keep_sif(store)
    path, seen = Path(kept.path), Path(kept.path).stat()
    if known:
        again(tmp_path).resolve("ml-base", "")
    data = bytearray(path.read_bytes())
    if damage.startswith("flip"):
        with path.open("r+b") as file:
            file.seek(4000)
            file.write(bytes([data[4000] ^ 1]))
    else:
        path.write_bytes({"truncate": data[:3000], "grow": data + b"x", "junk": b"x" * len(data), "empty": b""}[damage])
    if damage.endswith("back"):
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    code, detail = refusal(lambda: again(tmp_path).resolve("ml-base", kept.sha256 if pinned else ""))
    assert (code, kept.path in detail) == (Code.IMAGE_CORRUPT, True)


def test_a_truncated_file_that_nobody_listed_is_noticed(images: ImageStore, tmp_path: Path) -> None:
    path = sif(tmp_path / "mine.sif")
    assert images.resolve(str(path), "").verified == "file"
    os.truncate(path, 2000)
    assert refusal(lambda: images.resolve(str(path), ""))[0] is Code.IMAGE_CORRUPT


def test_a_pinned_file_that_was_good_at_the_last_look_is_damaged_not_wrong(images: ImageStore, tmp_path: Path) -> None:
    path = sif(tmp_path / "mine.sif")
    pin = images.resolve(str(path), "").sha256
    with path.open("r+b") as file:
        file.seek(4000)
        file.write(b"\xff")
    assert refusal(lambda: images.resolve(str(path), pin))[0] is Code.IMAGE_CORRUPT


def test_another_digest_than_the_pinned_one_is_the_jobs_fault(images: ImageStore, store: Path, tmp_path: Path) -> None:
    kept, other = keep_sif(store), "ab" * 32
    for reference in (
        f"ml-base@sha256:{other}",
        f"{kept.path}@sha256:{other}",
        f"{sif(tmp_path / 'x.sif')}@sha256:{other}",
    ):
        assert refusal(lambda reference=reference: images.resolve(reference, ""))[0] is Code.IMAGE_DIGEST
    assert refusal(lambda: images.resolve(f"ml-base@sha256:{kept.sha256}", other))[0] is Code.IMAGE_DIGEST
    assert refusal(lambda: images.resolve("ml-base@sha256:abc", ""))[0] is Code.JOB_INVALID


def change(path: Path) -> None:
    path.write_text("import that\n")


def chmod(path: Path) -> None:
    path.chmod(0o600)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def add(path: Path) -> None:
    (path.parent / "added.py").write_text("import more\n")


@pytest.mark.parametrize("known", [True, False], ids=["with-receipt", "first-look"])
@pytest.mark.parametrize("harm", [change, chmod, remove, replace_by_link, add])
def test_a_directory_that_was_touched_is_noticed(
    store: Path, tmp_path: Path, harm: Callable[[Path], None], known: bool
) -> None:
    kept = keep_directory(store)
    module = Path(kept.path) / "lib" / "module.py"
    seen = module.stat()
    if known:
        assert again(tmp_path).resolve("ml-base", "").verified == "unpacked"
    harm(module)
    if module.exists() and not module.is_symlink():
        os.utime(module, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    code, detail = refusal(lambda: again(tmp_path).resolve("ml-base", ""))
    assert (code, kept.path in detail) == (Code.IMAGE_CORRUPT, True)


def test_a_directory_is_walked_once_per_pilot(images: ImageStore, store: Path) -> None:
    kept = keep_directory(store)
    images.resolve("ml-base", "")
    (Path(kept.path) / "lib" / "module.py").write_text("changed under a running pilot")
    assert images.resolve("ml-base", "").verified == "unpacked"
    assert refusal(lambda: images.verify("ml-base"))[0] is Code.IMAGE_CORRUPT


def test_who_made_an_image_vouches_for_it_until_it_is_touched(images: ImageStore, store: Path, tmp_path: Path) -> None:
    packed, unpacked = keep_sif(store, "packed"), keep_directory(store, "unpacked")
    for each in (packed, unpacked):
        images.vouch(each)
    assert again(tmp_path).resolve("packed", "").verified == "receipt"
    assert again(tmp_path).resolve("unpacked", "").verified == "unpacked"
    (Path(unpacked.path) / "lib" / "module.py").write_text("touched")
    assert refusal(lambda: again(tmp_path).resolve("unpacked", ""))[0] is Code.IMAGE_CORRUPT


@pytest.mark.parametrize("arch", [b"04\0", b"03\0", b"11\0"])
def test_an_image_for_another_processor_does_not_fit(images: ImageStore, tmp_path: Path, arch: bytes) -> None:
    path = sif(tmp_path / "other.sif", arch)
    assert refusal(lambda: images.resolve(str(path), ""))[0] is Code.IMAGE_UNFIT
    root = directory(tmp_path / "other")
    head = bytearray((root / "bin" / "dash").read_bytes())
    head[18:20] = (183).to_bytes(2, "little")
    (root / "bin" / "dash").write_bytes(head)
    assert refusal(lambda: images.resolve(str(root), ""))[0] is Code.IMAGE_UNFIT


def test_a_directory_that_is_no_image_says_so(images: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bin").symlink_to("../../../../../bin")
    for name in ("empty", "out"):
        code, detail = refusal(lambda name=name: images.resolve(str(tmp_path / name), ""))
        assert (code, "/bin/sh" in detail) == (Code.IMAGE_CORRUPT, True)


# --- making room ----------------------------------------------------------------------------------------------------


def test_the_least_recently_used_goes_first_until_the_low_mark(store: Path) -> None:
    kept = [keep_sif(store, f"image{number}") for number in range(4)]
    for age, image in enumerate(kept):
        os.utime(note_of(Path(image.path)), (1000 + age, 1000 + age))
    size = kept[0].bytes
    assert collect(store, Marks(size * 4, 1.0, 0.5)) == ()
    gone = collect(store, Marks(size * 4, 0.9, 0.5))
    assert [each.name for each in gone] == ["image0", "image1"]
    assert {each.name for each in listed([store])} == {"image2", "image3"}
    left = {each.name for each in store.iterdir() if each.name != ".build"}
    assert left == {Path(each.path).name for each in kept[2:]} | {note_of(Path(each.path)).name for each in kept[2:]}


def test_use_keeps_an_image_young(images: ImageStore, store: Path) -> None:
    old, new = keep_sif(store, "old"), keep_sif(store, "new")
    for each in (old, new):
        os.utime(note_of(Path(each.path)), (1000, 1000))
    images.resolve("old", "")
    images.close()
    assert [each.name for each in collect(store, Marks(old.bytes + new.bytes, 0.9, 0.6))] == ["new"]


def test_an_image_in_use_stays(images: ImageStore, store: Path) -> None:
    for form in (keep_sif, keep_directory):
        kept = form(store, form.__name__)
        images.resolve(form.__name__, "")
        assert kept.name not in [each.name for each in collect(store, Marks(1))]
    images.close()
    assert {each.name for each in collect(store, Marks(1))} == {"keep_sif", "keep_directory"}
    assert [each.name for each in store.iterdir()] == [".build"]


@pytest.mark.parametrize("point", ["images.forget", "images.put-away", "images.receipt"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_point_the_store_stays_whole(store: Path, tmp_path: Path, point: str, when: str) -> None:
    keep_sif(store)
    script = f"""
import sys
sys.path.insert(0, {str(TREE)!r})
from pathlib import Path
from pilot.adapters.images_cache import ImageStore
from pilot.adapters.images_gc import Marks, collect
store = ImageStore(Path({str(store)!r}), (), Path({str(tmp_path / "receipts")!r}))
store.resolve("ml-base", "")
store.close()
collect(Path({str(store)!r}), Marks(1))
"""
    armed = {**os.environ, "PILOT_FAILPOINT": f"{point}.{when}:kill"}
    assert subprocess.run([sys.executable, "-c", script], env=armed, timeout=60, check=False).returncode == -9
    images = again(tmp_path)
    for image in images.at_hand():
        assert images.resolve(image.name, "").sha256 == image.sha256
    images.close()
    for note in store.glob("*.json"):
        assert json.loads(note.read_text())["name"] == "ml-base"
    collect(store, Marks(1))
    assert [each.name for each in store.iterdir()] == [".build"]
    assert [each.name for each in (store / ".build").iterdir()] == ["lock"]
