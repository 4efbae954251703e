"""A saved file says how it was made, and is made again from that: equal, or with the reason why not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
import slicer

from SAM3DSegmentLib.cli import main
from SAM3DSegmentLib.replay import read_records
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.segmentation_file import load_segmentation
from Testing.doubles import ball_volume, middle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of one include and one exclude click, and its scan."""
    folder = tmp_path_factory.mktemp("replay")
    volume = ball_volume(15)
    noise = np.random.default_rng(0).normal(0, 0.05, volume.voxels.shape)
    voxels = ((volume.voxels + noise) * 100).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels.T, volume.ijk_to_ras), folder / "scan.nii.gz")
    r, a, s = middle(volume)
    clicks = ["--include", f"{r},{a},{s}", "--exclude", f"{r + 25},{a},{s}"]
    out = folder / "tumour.seg.nrrd"
    assert main(["segment", str(folder / "scan.nii.gz"), *clicks, "--out", str(out), "--device", "cpu"]) == 0
    return out, folder / "scan.nii.gz"


def replayed(capsys: pytest.CaptureFixture[str], file: Path, scan: Path) -> tuple[int, dict]:
    """Exit status, and what is said of the only segment."""
    capsys.readouterr()
    status = main(["replay", str(file), str(scan), "--device", "cpu", "--json"])
    (segment,) = json.loads(capsys.readouterr().out)["segments"]
    return status, segment


def rewritten(file: Path, out: Path, old: str = "", new: str = "", cleared: int = 0) -> Path:
    """The file with another text in its tags, or with the first of its segment's voxels cleared."""
    data, header = nrrd.read(str(file))
    changed = {k: v.replace(old, new) if isinstance(v, str) and old else v for k, v in header.items()}
    data[tuple(np.argwhere(data)[:cleared].T)] = 0
    nrrd.write(str(out), data, changed)
    return out


def test_the_same_machine_gives_the_same_voxels(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, segment = replayed(capsys, *made)

    assert (status, segment["equal"], segment["reasons"]) == (0, True, [])


def test_a_file_that_went_through_slicers_storage_node_replays(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = boot_scene()
    node = load_segmentation(scene, made[0])
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "again.seg.nrrd"))
    assert storage.WriteData(node)
    scene.RemoveNode(node)

    status, segment = replayed(capsys, tmp_path / "again.seg.nrrd", made[1])

    assert (status, segment["equal"]) == (0, True)


def test_a_mask_changed_by_hand_is_told_from_its_clicks(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = rewritten(made[0], tmp_path / "edited.seg.nrrd", cleared=40)

    status, segment = replayed(capsys, edited, made[1])

    assert status == 1
    assert 0 < segment["dice"] < 1
    assert segment["reasons"] == ["the mask was changed after its clicks, or resampled when it was saved"]


def test_another_checkpoint_is_named_as_the_reason(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = next(v for k, v in nrrd.read_header(str(made[0])).items() if k.endswith("_Tags")).split("ModelSHA256:")[1][
        :64
    ]
    other = rewritten(made[0], tmp_path / "other.seg.nrrd", sha, "0" * 64)

    _, segment = replayed(capsys, other, made[1])

    (reason,) = segment["reasons"]
    assert reason.startswith("checkpoint 000000000000 then")


def test_info_tells_clicks_model_and_device(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["info", str(made[0])]) == 0
    text = capsys.readouterr().out

    assert "model compact" in text
    assert "device cpu" in text
    assert text.index("1. include") < text.index("2. exclude")
    assert "changed" not in text


def test_a_mask_that_was_saved_on_another_grid_is_not_called_changed_where_it_comes_out_equal(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, header = nrrd.read(str(made[0]))
    kept = {k: v for k, v in header.items() if k not in ("Segment0_Extent", "Segmentation_ReferenceImageExtentOffset")}
    kept["space origin"] = header["space origin"] - np.array([5, 4, 3]) @ header["space directions"]
    nrrd.write(str(tmp_path / "padded.seg.nrrd"), np.pad(data, ((5, 2), (4, 2), (3, 2))), kept)

    (record,) = read_records(tmp_path / "padded.seg.nrrd")
    status, segment = replayed(capsys, tmp_path / "padded.seg.nrrd", made[1])

    assert record.as_recorded is False
    assert (status, segment["equal"], segment["reasons"]) == (0, True, [])


def test_info_tells_a_mask_that_its_clicks_did_not_make(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(file: Path) -> bool | None:
        capsys.readouterr()
        assert main(["info", str(file), "--json"]) == 0
        (segment,) = json.loads(capsys.readouterr().out)["segments"]
        as_recorded: bool | None = segment["mask_as_recorded"]
        return as_recorded

    edited = rewritten(made[0], tmp_path / "edited.seg.nrrd", cleared=1)
    assert [told(made[0]), told(edited)] == [True, False]
    assert told(rewritten(made[0], tmp_path / "old.seg.nrrd", "SAM3DSegment.MaskSHA256", "Other")) is None
    assert main(["info", str(edited)]) == 0
    assert "the mask was changed after its clicks" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["info", "replay"])
def test_a_file_that_is_no_segmentation_is_refused(
    command: str, made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.seg.nrrd").write_text("not a file of Slicer's")
    capsys.readouterr()

    assert main([command, str(tmp_path / "no.seg.nrrd"), *([str(made[1])] if command == "replay" else [])]) == 2
    assert "holds no segmentation" in capsys.readouterr().err


def written(path: Path, voxels: np.ndarray) -> Path:
    """An image of voxels [K, J, I]."""
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))
    return path


NOISE = np.random.default_rng(0).normal(0, 1000, (9, 10, 11))
LABELS = (NOISE > 500) + 299 * (NOISE > 1500)


@pytest.mark.parametrize(
    ("name", "voxels"),
    [
        ("scan.nii.gz", NOISE.astype(np.int16)),
        ("scan.nii.gz", NOISE.astype(np.int16).astype(np.float32)),
        ("field.nii.gz", (NOISE > 0).astype(np.float32) / 2),
        ("broken.mha", np.where(NOISE > 0, 1, np.inf).astype(np.float32)),
        ("scan.nrrd", NOISE.astype(np.int16)),
        ("labels.nrrd", LABELS.astype(np.uint16)),
        ("none.seg.nrrd", None),
    ],
)
def test_a_scan_is_no_segmentation_and_said_so_in_one_line(
    name: str, voxels: np.ndarray | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text("not a file of Slicer's") if voxels is None else written(path, voxels)
    capfd.readouterr()

    assert main(["info", str(path)]) == 2
    streams = capfd.readouterr()
    assert streams.out == ""
    assert re.fullmatch(rf"sam3dsegment: .*{name} holds no segmentation \(.*\n", streams.err)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_labelmap_of_another_program_has_its_segments(
    kind: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(written(tmp_path / "labels.nii.gz", LABELS.astype(kind))), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["segments"]) == 2


def test_segments_of_other_programs_have_nothing_to_replay(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = rewritten(made[0], tmp_path / "foreign.seg.nrrd", "SAM3DSegment.Clicks", "Other.Clicks")
    capsys.readouterr()

    assert main(["replay", str(foreign), str(made[1])]) == 2
    assert "nothing to replay" in capsys.readouterr().err
    assert main(["info", str(foreign)]) == 0
    assert "not made by SAM3DSegment" in capsys.readouterr().out
