"""Builds the data-science images: a base, the pinned wheels, then Apptainer; no root, no /etc/subuid, no shell.

The store is flat: `NAME-DIGEST.sif` or `NAME-DIGEST.dir` with `NAME-DIGEST.manifest`, and beside each
`NAME-DIGEST.json`, the receipt, which is written last: what has no receipt is not there.
"""

import json
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.images_listing import DIRECTORY, SIF, StoredImage, listed, write
from pilot.adapters.images_manifest import bytes_below, digest, file_sha256, manifest
from pilot.adapters.images_recipe import Arguments, Recipe, read
from pilot.adapters.images_tools import BASE, Progress, Site, apptainer, lock, own_all, remove, run, workplace
from pilot.ports import Passing

SHIPPED = Path(__file__).parents[2] / "containers"
BASE_SECONDS = 300.0
_TRANSPORT = re.compile(r"(oci|oci-archive|docker-archive):/|[a-z]+://")
GLIBC_OF_BOOKWORM = 36  # 2.36: the newest manylinux tag that the image's C library can run


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build and where to keep it. `form` is sif, directory, both, or auto: the fastest that the disk allows."""

    image: str
    store: Path
    apptainer: Path
    form: str = "auto"
    arguments: Arguments = ()


def build(request: BuildRequest, progress: Progress) -> tuple[StoredImage, ...]:
    """The image in the form or forms asked for; what is there already from the same recipe is not built again."""
    recipe = read(request.image, SHIPPED, request.arguments)
    parent = _parent(request, recipe, progress)
    digest_of_recipe = recipe.digest(parent.sha256 if parent else "")
    with lock(request.store / ".build"):
        found = _found(request, recipe.name, digest_of_recipe)
        if found:
            return found
        with workplace(request.store, request.apptainer, progress) as site:
            root = _assemble(site, recipe, parent)
            return _keep(site, request.form, _Made(recipe.name, digest_of_recipe, root, _labels(root)))


# --- the steps ------------------------------------------------------------------------------------------------------


def _parent(request: BuildRequest, recipe: Recipe, progress: Progress) -> StoredImage | None:
    if not recipe.parent:
        return None
    form = DIRECTORY if request.form == "auto" else request.form
    return build(BuildRequest(recipe.parent, request.store, request.apptainer, form), progress)[0]


def _assemble(site: Site, recipe: Recipe, parent: StoredImage | None) -> Path:
    wheels = _wheels(site, recipe)
    if parent:
        return _install(site, recipe, wheels, Path(parent.path))
    if dict(recipe.arguments).get("BOOTSTRAP") == "docker":
        try:
            return _install(site, recipe, wheels, _docker_base(site, recipe))
        except Passing as error:
            if not recipe.debian_base:
                raise
            site.progress(f"{recipe.name}: not from the registry ({error.fault.detail})")
    return _install(site, recipe, wheels, _debian_base(site, recipe))


def _install(site: Site, recipe: Recipe, wheels: Path | None, base: Path) -> Path:
    site.lay_out(recipe.folder, base)
    site.progress(f"{recipe.name}: installing and testing")
    root = site.work / "root"
    values = {**dict(recipe.arguments), "BOOTSTRAP": "localimage", "BASE": BASE}
    arguments = [word for key, value in values.items() for word in ("--build-arg", f"{key}={value}")]
    binds = ["--bind", f"{wheels}:/mnt:ro"] if wheels else []
    flags = ["--fix-perms", "--sandbox", "--ignore-fakeroot-command", *binds, *arguments]
    apptainer(site, "installing", "build", *flags, str(root), recipe.definition.name)
    return root


def _docker_base(site: Site, recipe: Recipe) -> Path:
    base = dict(recipe.arguments).get("BASE", "")
    source = base if _TRANSPORT.match(base) else f"docker://{base}"
    target = site.work / "docker"
    site.progress(f"{recipe.name}: asking for {source}")
    apptainer(site, "registry", "build", "--sandbox", "--fix-perms", str(target), source)
    if os.getuid() == 0:
        own_all(target)
    return target


def _debian_base(site: Site, recipe: Recipe) -> Path:
    flags = [word for word in recipe.debian_base if word.startswith("-")]
    suite, *packages = [word for word in recipe.debian_base if not word.startswith("-")]
    target = site.work / "debian"
    site.progress(f"{recipe.name}: a base from Debian's packages")
    run(site, "base", ["sh", str(SHIPPED / "debian-base"), *flags, suite, str(target), *packages], BASE_SECONDS)
    return target


def _wheels(site: Site, recipe: Recipe) -> Path | None:
    if recipe.wheels is None:
        return None
    pins = recipe.wheels.read_bytes() + recipe.python.encode()
    kept = site.caches / "wheels" / f"{recipe.wheels.stem}-{platform.machine()}-{digest(pins.decode())[:12]}"
    if kept.is_dir():
        return kept
    site.progress(f"{recipe.name}: fetching the wheels of {recipe.wheels.name}")
    fresh = site.work / "wheels"
    run(site, "wheels", [*_pip_download(recipe), "--dest", str(fresh), "-r", str(recipe.wheels)])
    kept.parent.mkdir(exist_ok=True)
    fresh.rename(kept)
    return kept


def _pip_download(recipe: Recipe) -> list[str]:
    """Pip outside, with the machine's own settings and certificates; so inside it needs neither."""
    tags = [f"manylinux_2_{minor}" for minor in range(GLIBC_OF_BOOKWORM, 4, -1)]
    tags += ["manylinux2014", "manylinux2010", "manylinux1", "linux"]
    platforms = [word for tag in tags for word in ("--platform", f"{tag}_{platform.machine()}")]
    wanted = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", recipe.python]
    return [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted, *platforms]


# --- keeping --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Made:
    """A finished root directory, and the recipe it came from."""

    name: str
    recipe: str
    root: Path
    labels: dict[str, str]


def _keep(site: Site, form: str, made: _Made) -> tuple[StoredImage, ...]:
    forms = _forms(form, bytes_below(made.root), shutil.disk_usage(site.store).free)
    packed = (_keep_sif(site, made),) if SIF in forms else ()
    unpacked = (_keep_directory(site, made),) if DIRECTORY in forms else ()
    return unpacked + packed


def _forms(wanted: str, size_bytes: int, free_bytes: int) -> tuple[str, ...]:
    if wanted == "both":
        return (DIRECTORY, SIF)
    if wanted != "auto":
        return (wanted,)
    # A directory starts fastest, and lz4 takes about half of it. Half of what is free stays with the jobs.
    return (DIRECTORY,) if size_bytes < free_bytes / 2 else (SIF,)


def _keep_sif(site: Site, made: _Made) -> StoredImage:
    site.progress(f"{made.name}: packing")
    packed = site.work / f"{made.name}.sif"
    apptainer(site, "packing", "build", "--mksquashfs-args", "-comp lz4", str(packed), made.root.name)
    sha256 = file_sha256(packed)
    path = site.store / f"{made.name}-{sha256[:12]}.sif"
    packed.chmod(0o644)
    packed.rename(path)
    return write(StoredImage(made.name, str(path), sha256, SIF, path.stat().st_size, made.labels, made.recipe))


def _keep_directory(site: Site, made: _Made) -> StoredImage:
    site.progress(f"{made.name}: writing the manifest")
    text = manifest(made.root)
    path = site.store / f"{made.name}-{digest(text)[:12]}.dir"
    path.with_suffix(".manifest").write_text(text, encoding="utf-8", errors="surrogateescape")
    if path.exists():
        remove(path)
    made.root.rename(path)
    return write(
        StoredImage(made.name, str(path), digest(text), DIRECTORY, bytes_below(path), made.labels, made.recipe)
    )


def _found(request: BuildRequest, name: str, digest_of_recipe: str) -> tuple[StoredImage, ...]:
    there = {
        image.form: image
        for image in reversed(listed([request.store]))
        if image.name == name and image.recipe == digest_of_recipe and Path(image.path).exists()
    }
    if request.form == "auto":
        return tuple(there[form] for form in (DIRECTORY, SIF) if form in there)[:1]
    wanted = (DIRECTORY, SIF) if request.form == "both" else (request.form,)
    return tuple(there[form] for form in wanted) if all(form in there for form in wanted) else ()


def _labels(root: Path) -> dict[str, str]:
    text = (root / ".singularity.d" / "labels.json").read_text(encoding="utf-8")
    return {str(key): str(value) for key, value in json.loads(text).items()}
