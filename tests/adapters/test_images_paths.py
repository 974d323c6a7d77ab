"""Images named by a path: whose jobs may name which."""

from pathlib import Path

import pytest

from pilot.adapters.images_cache import ImageStore
from pilot.model.faults import Code
from pilot.ports import Final


def test_strangers_jobs_name_images_of_stores_and_given_roots_alone(tmp_path: Path) -> None:
    for name in ("store", "cvmfs", "elsewhere"):
        (tmp_path / name / "image").mkdir(parents=True)
    (tmp_path / "cvmfs" / "way-out").symlink_to(tmp_path / "elsewhere" / "image")
    images = ImageStore(tmp_path / "store", (), tmp_path / "receipts", roots=(tmp_path / "cvmfs",))
    for path in ("elsewhere/image", "cvmfs/way-out"):
        with pytest.raises(Final) as refused:
            images.resolve(str(tmp_path / path), "")
        assert refused.value.fault.code is Code.JOB_INVALID
    for path in ("store/image", "cvmfs/image"):
        with pytest.raises(Final) as looked_at:  # it may be named, and is no image
            images.resolve(str(tmp_path / path), "")
        assert looked_at.value.fault.code is Code.IMAGE_CORRUPT
    images.close()
