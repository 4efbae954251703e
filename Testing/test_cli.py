"""The command line: the main job on phantoms and real scans, and one line for every kind of bad input."""

from __future__ import annotations

import json
import pickle
import re
import resource
import subprocess
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
import torch

from SAM3DSegmentLib.cli import main
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.models.store import find_model
from SAM3DSegmentLib.typed_clicks import joined_points
from Testing.doubles import ball_volume, middle
from Testing.without_torch import hiding, hiding_torch

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "test"
real_scans = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")


def written(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """A NIfTI file of voxels [K, J, I]."""
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def ball_scan(tmp_path: Path) -> tuple[Path, str]:
    """A scan of a bright ball, and the point in its middle as it is typed."""
    volume = ball_volume(15)
    noise = np.random.default_rng(0).normal(0, 0.05, volume.voxels.shape)
    path = written(tmp_path / "scan.nii.gz", ((volume.voxels + noise) * 100).astype(np.int16), volume.ijk_to_ras)
    return path, ",".join(f"{c:g}" for c in middle(volume))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line with which the command line refuses."""
    assert main([str(a) for a in arguments]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    return streams.err


@real_scans
def test_the_main_job_on_a_real_scan_as_a_user_types_it(tmp_path: Path) -> None:
    out = tmp_path / "tumour.seg.nrrd"
    points = ["--include", "-55.7,-135.8,-949", "--include", "ijk:313,300,61", "--exclude", "10.7,-108.5,-913.0"]
    command = [sys.executable, "-m", "SAM3DSegmentLib.cli", "segment", str(DATA / "4DLung_113_CT_image.nii.gz")]
    result = subprocess.run(
        [*command, *points, "--out", str(out), "--device", "cpu", "--json"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert [click["include"] for click in report["clicks"]] == [True, True, False]
    assert report["clicks"][0]["ras"] == pytest.approx([-55.7, -135.8, -949])
    assert set(report) == {"clicks", "model", "model_sha256", "device", "out"}
    assert report["device"] == "cpu"

    voxels, header = nrrd.read(str(out))
    scan = nibabel.load(DATA / "4DLung_113_CT_image.nii.gz")
    seg = SimpleITK.ReadImage(str(out))
    i, j, k = seg.TransformPhysicalPointToIndex((55.7, 135.8, -949.0))
    assert voxels[i, j, k] == 1
    assert np.prod(seg.GetSpacing()) * voxels.sum() / 1000 == pytest.approx(report["clicks"][-1]["volume_ml"], rel=1e-3)
    assert np.allclose(seg.GetSpacing(), scan.header.get_zooms(), atol=1e-4)
    tags = header["Segment0_Tags"]
    assert report["model_sha256"] in tags
    assert "-55.7" in tags


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_a_labelmap_lies_on_the_scans_grid(ball_scan: tuple[Path, str], tmp_path: Path, suffix: str) -> None:
    scan, point = ball_scan
    out = tmp_path / f"mask{suffix}"
    assert main(["segment", str(scan), "--include", point, "--out", str(out)]) == 0
    label, image = SimpleITK.ReadImage(str(out)), SimpleITK.ReadImage(str(scan))
    assert label.GetSize() == image.GetSize()
    assert np.allclose(label.GetOrigin(), image.GetOrigin(), atol=1e-3)
    mask = SimpleITK.GetArrayFromImage(label) > 0
    truth = ball_volume(15).voxels > 0.5
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8


def test_clicks_keep_their_order_across_both_options(
    ball_scan: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, point = ball_scan
    clicks = ["--exclude", "ijk:5,5,5", "--include", point, "--exclude", "ijk:9,9,9"]
    assert main(["segment", str(scan), *clicks, "--out", str(tmp_path / "mask.seg.nrrd"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [click["include"] for click in report["clicks"]] == [False, True, False]
    assert report["clicks"][0]["volume_ml"] == 0


def test_a_leading_minus_is_no_option() -> None:
    assert joined_points(["--include", "-55.7,-135.8,-949", "--out", "-"]) == [
        "--include=-55.7,-135.8,-949", "--out", "-",
    ]  # fmt: skip


def test_the_demo_writes_its_segmentation_and_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    voxels, header = nrrd.read(str(tmp_path / "demo" / "tumour.seg.nrrd"))
    assert voxels.any()
    assert header["Segment0_Name"] == "tumour"
    assert header["Segment0_NameAutoGenerated"] == header["Segment0_ColorAutoGenerated"] == "0"
    assert (tmp_path / "demo" / "tumour.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:4]]
    assert [row[1] for row in rows] == ["include", "include", "exclude"]
    assert all(0 < float(row[-1]) <= 1 for row in rows)


def test_clicks_of_a_demo_without_a_scan_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--scan" in refused(capsys, "demo", "--include", "1,2,3", "--out", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


BAD_VOXELS = {
    "not 3D": (np.ones((5, 6), np.int16), "3D"),
    "4D": (np.ones((3, 4, 5, 6), np.int16), "3 volumes"),
    "constant": (np.full((4, 5, 6), 7, np.int16), "nothing to segment"),
    "NaN": (np.full((4, 5, 6), np.nan, np.float32), "NaN"),
    "infinite": (np.full((4, 5, 6), np.inf, np.float32), "NaN or infinite"),
    "too large": (np.linspace(0, 1e39, 120).reshape(4, 5, 6), "beyond 1e+15"),
}


@pytest.mark.parametrize("kind", BAD_VOXELS)
def test_a_scan_that_cannot_be_segmented_is_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voxels, reason = BAD_VOXELS[kind]
    scan, out = written(tmp_path / "scan.nii.gz", voxels), tmp_path / "out.seg.nrrd"
    assert reason in refused(capsys, "segment", scan, "--include", "1,1,1", "--out", out)
    assert not out.exists()


def test_a_colour_scan_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = tmp_path / "scan.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones((4, 5, 6, 3), np.uint8), isVector=True), str(scan))
    assert "grey" in refused(capsys, "segment", scan, "--include", "1,1,1", "--out", tmp_path / "out.nrrd")


@pytest.mark.parametrize("content", [None, b"", b"no image at all" * 100])
def test_a_missing_or_unreadable_scan_is_one_line(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "scan.nii.gz"
    if content is not None:
        scan.write_bytes(content)
    assert "scan.nii.gz" in refused(capsys, "segment", scan, "--include", "1,1,1", "--out", tmp_path / "out.nrrd")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["segment", "scan.nii.gz", "--include", "1,1,1"], "--out"),
        (["segment", "scan.nii.gz", "--out", "mask.nrrd", "--include"], "expected one argument"),
        (["segment", "scan.nii.gz", "--out", "mask.nrrd", "--inc", "-1,2,3"], "unrecognized arguments"),
        (["segmnt"], "invalid choice"),
        (["view", "--port", "99999"], "from 0 to 65535"),
        (["view", "--port", "-1"], "from 0 to 65535"),
        (["view", "--host", ""], "is no host"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert reason in said
    assert "--help" in said


BAD_CLICKS = {
    "outside": (["--include", "0,0,99999"], "outside the scan"),
    "none": ([], "--include"),
    "exclude only": (["--exclude", "ijk:75,75,30"], "--include"),
    "two numbers": (["--include", "1,2"], "R,A,S"),
    "words": (["--include", "a,b,c"], "R,A,S"),
    "not finite": (["--include", "nan,1,2"], "R,A,S"),
}


@pytest.mark.parametrize("kind", BAD_CLICKS)
def test_a_bad_click_is_one_line(
    kind: str, ball_scan: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, reason = BAD_CLICKS[kind]
    out = tmp_path / "out.seg.nrrd"
    assert reason in refused(capsys, "segment", ball_scan[0], *clicks, "--out", out)
    assert not out.exists()


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path('harmed').touch()",))


def bad_model(kind: str, folder: Path) -> object:
    """A model that must be refused."""
    path = folder / "model.safetensors"
    good = find_model("compact").read_bytes()
    if kind == "unknown":
        return "no-such-model"
    if kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "another network":
        path = folder / "model.pth"
        torch.save({"weight": torch.ones(3)}, path)
    else:
        path = folder / "model.pth"
        path.write_bytes(pickle.dumps(Hostile()))
    return path


@pytest.mark.parametrize("kind", ["unknown", "truncated", "another network", "hostile"])
def test_a_bad_model_is_one_line_and_runs_no_code(
    kind: str, ball_scan: tuple[Path, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    scan, point = ball_scan
    out = tmp_path / "out.seg.nrrd"
    model = bad_model(kind, tmp_path)
    assert Path(str(model)).name in refused(capsys, "segment", scan, "--include", point, "--model", model, "--out", out)
    assert not out.exists()
    assert not (tmp_path / "harmed").exists()


def test_an_unwritable_target_is_one_line_before_the_engine_starts(
    ball_scan: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "start", lambda engine: pytest.fail("the engine was started"))
    scan, point = ball_scan
    for out in (tmp_path / "no such folder" / "out.seg.nrrd", tmp_path / "out.docx"):
        assert out.name in refused(capsys, "segment", scan, "--include", point, "--out", out)
        assert not out.exists()


def test_a_full_disk_is_one_line_and_leaves_no_partial_file(ball_scan: tuple[Path, str], tmp_path: Path) -> None:
    """The disk is full after 512 bytes: a limit on the size of every file that the process writes."""
    scan, point = ball_scan
    folder = tmp_path / "out"
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "SAM3DSegmentLib.cli", "segment", str(scan), "--include", point,
         "--out", str(folder / "mask.seg.nrrd")],
        cwd=ROOT, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
    )  # fmt: skip
    assert result.returncode == 2
    assert "mask.seg.nrrd" in result.stderr.splitlines()[-1]
    assert list(folder.iterdir()) == []


def without_torch(tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where PyTorch is not installed."""
    command = [sys.executable, "-m", "SAM3DSegmentLib.cli", *map(str, arguments)]
    environment = {**hiding_torch(tmp_path), "SAM3DSEGMENT_MODELS": str(tmp_path / "models")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_desktop_does_without_torch_and_an_evaluation_has_it() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def needed(extra: str) -> set[str]:
        names = {re.split(r"[<>=]", requirement)[0] for requirement in extras[extra]}
        own = [name for name in names if name.startswith("sam3dsegment[")]
        return names.union(*(needed(part) for name in own for part in name[13:-1].split(",")))

    assert "onnxruntime" in needed("desktop") and not needed("desktop") & {"torch", "segment-anything"}
    assert needed("evaluation") >= {"torch", "segment-anything"}


def test_the_bundled_model_is_segmented_replayed_and_viewed_without_torch(
    ball_scan: tuple[Path, str], tmp_path: Path
) -> None:
    scan, point = ball_scan
    mask = tmp_path / "mask.seg.nrrd"
    for arguments in (["segment", scan, "--include", point, "--out", mask], ["replay", mask, scan], ["models"]):
        result = without_torch(tmp_path, *arguments)
        assert result.returncode == 0, result.stderr
    importing = [sys.executable, "-c", "import SAM3DSegmentLib.viewer.server"]
    subprocess.run(importing, cwd=ROOT, env=hiding_torch(tmp_path), check=True)


def test_what_needs_torch_says_so_in_one_line_where_it_is_absent(ball_scan: tuple[Path, str], tmp_path: Path) -> None:
    scan, point = ball_scan
    model = tmp_path / "published.pth"
    torch.save({"encoder_dict": {}}, model)
    segmenting = ["segment", scan, "--include", point, "--model", model, "--out", tmp_path / "mask.nrrd"]
    for arguments in (["models", "convert", model, "--task", "kits", "--out", tmp_path / "converted"], segmenting):
        result = without_torch(tmp_path, *arguments)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert "torch" in line and "install" in line


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("slicer", ["segment", "SCAN", "--include", "0,0,0", "--out", "mask.nrrd"], ".[desktop]"),
        ("trame", ["view", "--port", "0", "--no-browser"], ".[desktop]"),
        ("skimage", ["evaluate", "--data", ".", "--cases", "cases.tsv", "--out", "out"], ".[evaluation]"),
    ],
)
def test_a_package_that_a_command_needs_and_lacks_is_one_line(
    ball_scan: tuple[Path, str], tmp_path: Path, package: str, arguments: list[str], extra: str
) -> None:
    given = [str(ball_scan[0]) if argument == "SCAN" else argument for argument in arguments]
    command = [sys.executable, "-m", "SAM3DSegmentLib.cli", *given]
    environment = hiding(tmp_path, package)
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"{package} is not installed" in line and extra in line


def test_the_table_marks_a_click_that_changed_nothing(
    ball_scan: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, point = ball_scan
    r, a, s = (float(c) for c in point.split(","))
    clicks = ["--include", point, "--include", f"{r + 2},{a},{s}", "--exclude", f"{r + 12},{a},{s}"]
    assert main(["segment", str(scan), *clicks, "--out", str(tmp_path / "out.nii.gz"), "--device", "cpu"]) == 0
    first, needless, excluded = capsys.readouterr().out.splitlines()[1:4]
    assert [("no change" in line) for line in (first, needless, excluded)] == [False, True, False]
