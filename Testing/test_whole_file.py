"""A file of voxels that was cut off is told before ITK reads it, which would end the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from SAM3DSegmentLib.scene.whole_file import is_whole

ROOT = Path(__file__).resolve().parents[1]
VOXELS = np.random.default_rng(0).integers(0, 2, (20, 30, 40)).astype(np.int16)
HEADER = {"encoding": "gzip", "Segment0_ID": "one", "note": "a: b"}


@pytest.fixture(params=["mask.seg.nrrd", "raw.seg.nrrd", "mask.nii.gz"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".gz":
        nibabel.save(nibabel.Nifti1Image(VOXELS, np.eye(4)), path)
    else:
        nrrd.write(str(path), VOXELS, {**HEADER, "encoding": "raw"} if "raw" in path.name else HEADER)
    return path


def test_a_file_is_whole_until_its_last_bytes_are_missing(file: Path) -> None:
    content = file.read_bytes()
    assert is_whole(file)
    for length in (20, len(content) // 2, len(content) - 100, len(content) - 1):
        file.write_bytes(content[:length])
        assert not is_whole(file), length


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float64])
def test_every_type_of_voxel_is_counted_by_its_bytes(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "mask.nrrd"
    nrrd.write(str(path), VOXELS.astype(kind), {"encoding": "raw"})
    assert is_whole(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_whole(path)


def test_a_header_whose_voxels_lie_in_another_file_counts_as_whole(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "mask.nhdr"), VOXELS, detached_header=True)
    assert is_whole(tmp_path / "mask.nhdr")


@pytest.mark.parametrize("share", [0.4, 0.98])
def test_a_segmentation_that_was_cut_off_is_one_sentence(tmp_path: Path, share: float) -> None:
    path = tmp_path / "mask.seg.nrrd"
    nrrd.write(str(path), VOXELS, HEADER)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    command = [sys.executable, "-m", "SAM3DSegmentLib.cli", "info", str(path)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert child.returncode == 2
    assert child.stderr.count("\n") == 1
    assert "it is cut off or damaged" in child.stderr
