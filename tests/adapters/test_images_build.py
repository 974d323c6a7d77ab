"""Images: recipes, manifests, and real builds with a real Apptainer."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.adapters.images_build import SHIPPED, BuildRequest, _forms, build
from pilot.adapters.images_listing import StoredImage, listed
from pilot.adapters.images_manifest import digest, file_sha256, manifest
from pilot.adapters.images_recipe import read
from pilot.adapters.images_tools import remove
from pilot.ports import Final, Passing

ROOT = Path(__file__).parents[2]


# --- recipes --------------------------------------------------------------------------------------------------------


def test_every_shipped_definition_reads_and_is_pinned() -> None:
    for definition in SHIPPED.glob("*.def"):
        recipe = read(definition.stem, SHIPPED)
        assert recipe.parent or recipe.debian_base
        if recipe.wheels:
            lines = [line for line in recipe.wheels.read_text().splitlines() if not line.startswith("#")]
            assert lines
            assert all(line.count("==") == 1 for line in lines), recipe.wheels


def test_the_device_of_ml_torch_chooses_its_requirements() -> None:
    assert read("ml-torch", SHIPPED).wheels == SHIPPED / "requirements-ml-torch-cpu.txt"
    assert read("ml-torch", SHIPPED, (("DEVICE", "cuda"),)).wheels == SHIPPED / "requirements-ml-torch-cuda.txt"


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("ml-bsae", (), "ml-base"),
        ("/nowhere/x.def", (), "/nowhere/x.def"),
        ("ml-torch", (("DEVIC", "cuda"),), "DEVICE"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name: str, arguments: tuple[tuple[str, str], ...], told: str) -> None:
    with pytest.raises(Final) as caught:
        read(name, SHIPPED, arguments)
    assert told in caught.value.fault.detail
    assert "\n" not in caught.value.fault.detail


def test_the_digest_of_a_recipe_follows_all_that_the_image_is_made_from(tmp_path: Path) -> None:
    for path in SHIPPED.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())

    def now(name: str = "ml-torch", device: str = "cpu", parent: str = "p") -> str:
        arguments = (("DEVICE", device),) if name == "ml-torch" else ()
        return read(name, tmp_path, arguments).digest(parent)

    seen = [now(), now(device="cuda"), now(parent="q"), now("ml-base")]
    for changed in ("requirements-ml-torch-cpu.txt", "smoke-ml-torch.py", "install-wheels", "ml-torch.def"):
        with (tmp_path / changed).open("a") as stream:
            stream.write("# changed\n")
        seen.append(now())
    assert len(set(seen)) == len(seen)
    before = now()
    (tmp_path / "requirements-ml-torch-cuda.txt").write_text("")
    assert now() == before


# --- manifests ------------------------------------------------------------------------------------------------------


def _tree(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "tool").write_bytes(b"abc")
    (root / "bin" / "tool").chmod(0o755)
    (root / "lib").symlink_to("bin")
    (root / "empty").mkdir()
    return root


CHANGES = {
    "content": lambda root: (root / "bin" / "tool").write_bytes(b"abd"),
    "mode": lambda root: (root / "bin" / "tool").chmod(0o644),
    "name": lambda root: (root / "bin" / "tool").rename(root / "bin" / "tools"),
    "link": lambda root: ((root / "lib").unlink(), (root / "lib").symlink_to("empty")),
    "new file": lambda root: (root / "bin" / "new\nd 0755 - x").write_bytes(b""),
    "lost folder": lambda root: (root / "empty").rmdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_a_directory_changes_its_digest(tmp_path: Path, change: str) -> None:
    root = _tree(tmp_path / "a")
    before = manifest(root)
    CHANGES[change](root)
    assert digest(manifest(root)) != digest(before)


def test_the_same_files_elsewhere_and_later_are_the_same_image(tmp_path: Path) -> None:
    one, two = _tree(tmp_path / "a"), _tree(tmp_path / "b")
    os.utime(two / "bin" / "tool", (1, 1))
    assert manifest(one) == manifest(two)
    assert len(manifest(one).splitlines()) == 4


@pytest.mark.parametrize(
    ("wanted", "size", "free", "forms"),
    [
        ("auto", 10, 100, ("directory",)),
        ("auto", 60, 100, ("sif",)),
        ("both", 60, 100, ("directory", "sif")),
        ("sif", 10, 100, ("sif",)),
    ],
)
def test_the_fastest_form_that_the_disk_allows(wanted: str, size: int, free: int, forms: tuple[str, ...]) -> None:
    assert _forms(wanted, size, free) == forms


# --- real builds ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apptainer() -> Path:
    told = subprocess.run(
        [ROOT / "scripts" / "get-apptainer", "--print"], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    return Path(told.stdout.strip())


@pytest.fixture(scope="module")
def tiny(apptainer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StoredImage, ...]]:
    store = tmp_path_factory.mktemp("store")
    yield build(BuildRequest("test-tiny", store, apptainer, "both"), lambda _: None)
    remove(store)


def _inside(apptainer: Path, image: StoredImage, *command: str) -> str:
    flags = ["-q", "exec", "--userns", "--containall", image.path]
    done = subprocess.run(
        [apptainer, *flags, *command], check=False, env={}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.apptainer
def test_both_forms_run_and_hold_the_same(apptainer: Path, tiny: tuple[StoredImage, ...]) -> None:
    directory, sif = tiny
    assert (directory.form, sif.form) == ("directory", "sif")
    for image in tiny:
        assert _inside(apptainer, image, "python3", "-c", "print(6 * 7)") == "42"
        assert image.labels["pilot.cuda"] == "none"
    assert file_sha256(Path(sif.path)) == sif.sha256
    assert digest(manifest(Path(directory.path))) == directory.sha256
    assert directory.bytes < 80e6


@pytest.mark.apptainer
def test_nothing_of_this_machine_stays_in_the_image(tiny: tuple[StoredImage, ...]) -> None:
    directory, _ = tiny
    written = Path(directory.path).with_suffix(".manifest").read_text()
    assert "pip.conf" not in written
    assert str(Path(directory.path).parent) not in json.dumps(directory.labels)
    assert not (Path(directory.path) / "etc" / "resolv.conf").read_bytes()


@pytest.mark.apptainer
def test_what_is_there_is_not_built_again(apptainer: Path, tiny: tuple[StoredImage, ...]) -> None:
    store = Path(tiny[0].path).parent
    said: list[str] = []
    assert build(BuildRequest("test-tiny", store, apptainer, "both"), said.append) == tiny
    assert build(BuildRequest("test-tiny", store, apptainer), said.append) == tiny[:1]
    assert said == []
    assert sorted(image.form for image in listed([store])) == ["directory", "sif"]


@pytest.mark.apptainer
@pytest.mark.parametrize(("section", "told"), [("%post\n    exit 3\n", "%post"), ("%test\n    false\n", "%test")])
def test_a_failed_build_leaves_one_line_and_nothing_else(
    apptainer: Path, tiny: tuple[StoredImage, ...], tmp_path: Path, section: str, told: str
) -> None:
    store = Path(tiny[0].path).parent
    bad = tmp_path / "bad.def"
    head = "# parent: test-tiny\nBootstrap: {{ BOOTSTRAP }}\nFrom: {{ BASE }}\n\n"
    bad.write_text(f"{head}%arguments\n    BOOTSTRAP=localimage\n    BASE=x\n\n{section}")
    before = sorted(path.name for path in store.iterdir())
    with pytest.raises(Passing) as caught:
        build(BuildRequest(str(bad), store, apptainer, "directory"), lambda _: None)
    assert told in caught.value.fault.detail
    assert "\n" not in caught.value.fault.detail
    assert sorted(path.name for path in store.iterdir()) == before
    assert not list((store / ".build").glob("work-*"))


@pytest.mark.apptainer
def test_a_killed_build_leaves_no_process_and_the_next_one_cleans_up(
    apptainer: Path, tiny: tuple[StoredImage, ...], tmp_path: Path
) -> None:
    store = Path(tiny[0].path).parent
    slow = tmp_path / "slow.def"
    head = "# parent: test-tiny\nBootstrap: {{ BOOTSTRAP }}\nFrom: {{ BASE }}\n\n%arguments\n"
    slow.write_text(f"{head}    BOOTSTRAP=localimage\n    BASE=x\n\n%post\n    sleep 4321\n")
    script = (
        "import sys; from pathlib import Path; from pilot.adapters.images_build import *;"
        "build(BuildRequest(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), 'directory'), lambda _: None)"
    )
    with subprocess.Popen([sys.executable, "-c", script, slow, store, apptainer], cwd=ROOT) as builder:
        started = _wait(_sleeping)
        builder.kill()
    assert started
    assert _wait(lambda: not _sleeping())
    assert build(BuildRequest("test-tiny", store, apptainer, "sif"), lambda _: None) == tiny[1:]
    slow.write_text(slow.read_text().replace("sleep 4321", "true"))
    built = build(BuildRequest(str(slow), store, apptainer, "directory"), lambda _: None)
    assert Path(built[0].path).is_dir()
    assert not list((store / ".build").glob("work-*"))


@pytest.mark.apptainer
def test_a_docker_base_serves_where_one_can_be_had(
    apptainer: Path, tiny: tuple[StoredImage, ...], tmp_path: Path
) -> None:
    _oci_layout(Path(tiny[0].path), tmp_path / "oci")
    definition = tmp_path / "docked.def"
    head = "Bootstrap: {{ BOOTSTRAP }}\nFrom: {{ BASE }}\n\n%arguments\n    BOOTSTRAP=docker\n"
    definition.write_text(f"{head}    BASE=oci:{tmp_path}/oci\n\n%post\n    python3 -V\n")
    said: list[str] = []
    store = tmp_path / "store"
    built = build(BuildRequest(str(definition), store, apptainer, "directory"), said.append)
    assert f"docked: asking for oci:{tmp_path}/oci" in said
    assert _inside(apptainer, built[0], "python3", "-c", "print(6 * 7)") == "42"
    remove(store)
    remove(tmp_path / "oci")


def _oci_layout(root: Path, target: Path) -> None:
    """One image of one layer, whose files belong to several users, as those of a registry do."""

    def foreign(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid, member.gid = 0, 42
        return member

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(root, ".", filter=foreign)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        name = hashlib.sha256(data).hexdigest()
        (target / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (target / "blobs" / "sha256" / name).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{name}", "size": len(data)}

    packed = blob(layer.getvalue(), "layer.v1.tar")
    system = {"architecture": "amd64", "os": "linux", "config": {}}
    config = {**system, "rootfs": {"type": "layers", "diff_ids": [packed["digest"]]}}
    told = blob(json.dumps(config).encode(), "config.v1+json")
    image = {"schemaVersion": 2, "config": told, "layers": [packed]}
    entry = blob(json.dumps(image).encode(), "manifest.v1+json")
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
    return condition()


def _sleeping() -> bool:
    """Whether the %post of the slow image runs anywhere."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", b"4321"]:
                return True
    return False
