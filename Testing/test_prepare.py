"""Preparing a data set: checks of each pair, splits by patient, intensities, resampling and resuming."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from SAM3DSegmentLib.errors import CaseError, ConfigurationError, ExportError
from SAM3DSegmentLib.evaluation.cases import read_reference, read_structures
from SAM3DSegmentLib.intensity import CropStatistics, FixedWindow
from Testing.source_scans import SHAPE, SPACING, label_map, scan, write, write_pair
from training.__main__ import main
from training.configuration import Configuration
from training.dataset import DATASET_FILE, PreparedDataset, write_beside
from training.layouts import SourceCase
from training.prepare import LEFT_OUT_FILE, prepare, split_by_patient

SARCOMAS = Path("../shared/data/sarcoma_train")


def configuration(tmp_path: Path, **changes: Any) -> Configuration:
    defaults: dict[str, Any] = {"validation_share": 0.25, "test_share": 0.25, "workers": 1, "known_labels": (1, 2)}
    described = {"name": "test", "task": "lumps", "source": tmp_path / "raw", **defaults, **changes}
    return Configuration(data=tmp_path / "data", out=tmp_path / "out", **described)


@pytest.fixture
def eight(tmp_path: Path) -> Configuration:
    """Eight pairs of four patients, a CT and an MR each."""
    for n in range(4):
        for kind in ("CT", "MR_T1"):
            write_pair(tmp_path / "raw", f"P_{n}_{kind}", seed=n)
    return configuration(tmp_path)


def test_prepared_grid_is_isotropic_with_axes_towards_superior_anterior_and_right(tmp_path: Path) -> None:
    for n in range(4):
        write_pair(tmp_path / "raw", f"P_{n}_CT")
    flipped = np.diag([-1.0, -1.0, 2.0, 1.0])
    flipped[:2, 3] = SHAPE[0] - 1, SHAPE[1] - 1
    write(tmp_path / "raw" / "P_0_CT_image.nii.gz", scan()[::-1, ::-1], flipped)
    write(tmp_path / "raw" / "P_0_CT_label.nii.gz", label_map()[::-1, ::-1], flipped)
    case, same, *_ = prepare(configuration(tmp_path)).cases
    i, j, k = SHAPE
    assert case.shape == (2 * k, j, i)
    assert (case.low, case.high) == ((8, 2, 3), (14, 6, 7))
    assert case.foreground == case.mask().sum() == 6 * 4 * 4
    assert case.mask()[8:14, 2:6, 3:7].all()
    native = scan().T
    np.testing.assert_array_equal(case.image()[0], native[0])
    np.testing.assert_array_equal(case.image()[1], np.rint(0.75 * native[0] + 0.25 * native[1]))
    np.testing.assert_array_equal(case.image(), same.image())


def test_split_keeps_the_scans_of_a_patient_together_and_is_the_same_again(eight: Configuration) -> None:
    dataset = prepare(eight)
    patients = [{case.patient for case in dataset.of_split(split)} for split in ("train", "validation", "test")]
    assert [len(p) for p in patients] == [2, 1, 1]
    assert len(set.union(*patients)) == 4
    assert prepare(eight).cases == dataset.cases


def test_given_split_is_kept_and_only_the_rest_is_drawn(tmp_path: Path) -> None:
    rows = ["image,mask,patient,split"]
    for n in range(4):
        write_pair(tmp_path, f"P_{n}")
        rows.append(f"P_{n}_image.nii.gz,P_{n}_label.nii.gz,P_{n},{'test' if n == 3 else ''}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    dataset = prepare(configuration(tmp_path, layout="csv", source=tmp_path / "cases.csv"))
    assert [case.patient for case in dataset.of_split("test")] == ["P_3"]
    assert (len(dataset.of_split("train")), len(dataset.of_split("validation"))) == (2, 1)


def test_patient_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    rows = ["image,mask,patient,split"]
    for n, split in enumerate(("train", "test")):
        write_pair(tmp_path, f"P_{n}")
        rows.append(f"P_{n}_image.nii.gz,P_{n}_label.nii.gz,anna,{split}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    with pytest.raises(CaseError, match="Patient anna lies in train and, by case anna_P_1_image, in test"):
        prepare(configuration(tmp_path, layout="csv", source=tmp_path / "cases.csv"))


def test_held_out_cases_are_laid_out_for_the_evaluation_in_their_native_grid(tmp_path: Path) -> None:
    for n in range(4):
        write(tmp_path / "raw" / f"volume-{n}.nii", scan(n))
        write(tmp_path / "raw" / f"segmentation-{n}.nii", label_map(2))
    dataset = prepare(configuration(tmp_path, layout="lits", label=(2,)))
    (held_out,) = dataset.of_split("test")
    native = tmp_path / "data" / "native"
    (structure,) = read_structures(native / "cases.tsv")
    assert (structure.case, structure.name) == (held_out.name, "lumps")
    volume, reference = read_reference(native, structure)
    np.testing.assert_array_equal(volume.voxels, scan(int(held_out.name[-1])).T)
    np.testing.assert_array_equal(reference, label_map().T > 0)


def test_held_out_scans_are_not_copied(eight: Configuration) -> None:
    held_out = {case.name for case in prepare(eight).of_split("test")}
    images = list((eight.data / "native").glob("*_image.nii.gz"))
    assert {path.name for path in images} == {f"{name}_image.nii.gz" for name in held_out}
    assert all(path.is_symlink() for path in images)


def test_fewer_patients_than_splits_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "P_1_CT")
    write_pair(tmp_path / "raw", "P_2_CT")
    with pytest.raises(CaseError, match="2 patients are fewer than the splits train, validation, test need"):
        prepare(configuration(tmp_path))


def test_a_table_that_leaves_too_few_patients_for_its_splits_is_refused(tmp_path: Path) -> None:
    rows = ["image,mask,patient,split"]
    for n in range(3):
        write_pair(tmp_path, f"P_{n}")
        rows.append(f"P_{n}_image.nii.gz,P_{n}_label.nii.gz,P_{n},{'' if n == 2 else 'train'}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    with pytest.raises(CaseError, match="1 patients are fewer than the splits validation, test need"):
        prepare(configuration(tmp_path, layout="csv", source=tmp_path / "cases.csv"))


def test_a_further_patient_moves_no_more_than_one_other_from_each_split(tmp_path: Path) -> None:
    patients = [f"P_{n:03}" for n in range(200)]
    cases = [SourceCase(name, name, tmp_path, tmp_path) for name in patients]
    run = configuration(tmp_path)
    after = split_by_patient(cases, run)
    for n in (0, 77, 199):
        before = split_by_patient([case for case in cases if case.patient != patients[n]], run)
        assert sum(before[name] != after[name] for name in before) <= 2


def test_window_is_that_of_the_training_targets(eight: Configuration) -> None:
    dataset = prepare(eight)
    values = np.concatenate([case.image()[case.mask() > 0] for case in dataset.of_split("train")]).astype(float)
    window = dataset.intensity
    assert isinstance(window, FixedWindow)
    assert [window.low, window.high] == list(np.percentile(values, [0.5, 99.5], method="inverted_cdf"))
    assert (window.mean, window.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))


def test_scans_without_a_common_scale_fill_the_integers_and_are_normalised_by_their_crops(tmp_path: Path) -> None:
    for n in range(4):
        write(tmp_path / "raw" / f"P_{n}_image.nii.gz", scan(n).astype(np.float32) / 1000)
        write(tmp_path / "raw" / f"P_{n}_label.nii.gz", label_map())
    dataset = prepare(configuration(tmp_path, intensity="crop", spacing=2.0))
    assert dataset.intensity == CropStatistics()
    assert PreparedDataset.load(dataset.folder) == dataset
    case = prepare(configuration(tmp_path, intensity="crop")).cases[0]
    expected = CropStatistics().apply(scan(0).T.astype(np.float32), np.ones(SHAPE[::-1], bool))
    stored = case.image().astype(np.float32)
    found = CropStatistics().apply(stored, np.ones(case.shape, bool))
    assert case.image().min() == -32768
    assert np.corrcoef(found[0].ravel(), expected[0].ravel())[0, 1] > 0.9999


def shift(folder: Path) -> None:
    affine = np.diag([*SPACING, 1.0])
    affine[0, 3] = 5
    write(folder / "P_0_CT_label.nii.gz", label_map(), affine)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: write(f / "P_0_CT_label.nii.gz", label_map()[:-1]), r"different grids \(12 x 10 x 8 and 11 x 10"),
        (shift, "different places in space"),
        (lambda f: write(f / "P_0_CT_label.nii.gz", 0 * label_map()), "the label map is empty"),
        (lambda f: write(f / "P_0_CT_label.nii.gz", label_map(2)), "empty: no voxel of label 1"),
        (lambda f: write(f / "P_0_CT_label.nii.gz", label_map() * 7), "holds 7, beyond the expected 0, 1, 2"),
        (lambda f: write(f / "P_0_CT_image.nii.gz", scan() + np.float32(np.nan)), "NaN or infinite"),
        (lambda f: write(f / "P_0_CT_image.nii.gz", scan() / np.float32(1000)), "lost as whole numbers"),
        (lambda f: (f / "P_0_CT_label.nii.gz").unlink(), "there is no file .*P_0_CT_label.nii.gz"),
        (lambda f: os.truncate(f / "P_0_CT_image.nii.gz", 200), "cut short"),
    ],
)
def test_pair_that_cannot_be_used_is_left_out_by_name_and_the_rest_goes_on(
    eight: Configuration, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], said: str
) -> None:
    assert eight.source is not None
    spoil(eight.source)
    dataset = prepare(eight)
    assert len(dataset.cases) == 7
    report = (eight.data / LEFT_OUT_FILE).read_text()
    assert report.startswith("P_0_CT: ")
    assert re.search(said, report)
    assert "left out P_0_CT: " in capsys.readouterr().err


def test_finished_cases_are_not_prepared_again(eight: Configuration) -> None:
    dataset = prepare(eight)
    times = {path: path.stat().st_mtime_ns for path in eight.data.glob("*.npy")}
    (eight.data / f"{dataset.cases[0].name}.mask.npy").unlink()
    assert eight.source is not None
    write_pair(eight.source, "P_1_CT", seed=9)
    (eight.data / DATASET_FILE).unlink()
    prepare(eight)
    changed = {path.name.split(".")[0] for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {dataset.cases[0].name, "P_1_CT"}


def test_another_target_is_prepared_anew(eight: Configuration, tmp_path: Path) -> None:
    prepare(eight)
    assert eight.source is not None
    for path in eight.source.glob("*_label.nii.gz"):
        write(path, label_map(1) + label_map(1) * (np.arange(SHAPE[0]) == 3)[:, None, None].astype(np.uint8))
    both = prepare(configuration(tmp_path, label=(1, 2))).cases[0].foreground
    assert prepare(configuration(tmp_path, label=(2,))).cases[0].foreground == both / 4


def test_preparation_that_fails_leaves_no_description_of_a_data_set(eight: Configuration, tmp_path: Path) -> None:
    prepare(eight)
    with pytest.raises(CaseError, match="None of 8 cases"):
        prepare(configuration(tmp_path, label=(2,)))
    with pytest.raises(CaseError, match="holds no prepared data set"):
        PreparedDataset.load(eight.data)


def test_full_disk_leaves_the_earlier_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.npy"
    write_beside(target, b"earlier")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ExportError, match="No space left on device"):
        write_beside(target, np.zeros(5))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.npy", b"earlier")]


@pytest.mark.parametrize("content", ["", "{}", '{"task": 1}', '{"cases": [{}], "spacing": 1, "intensity": null}'])
def test_damaged_description_of_a_data_set_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / DATASET_FILE).write_text(content)
    with pytest.raises(CaseError, match="damaged"):
        PreparedDataset.load(tmp_path)


def test_missing_and_damaged_arrays_are_refused_by_name(eight: Configuration) -> None:
    case, other, *_ = prepare(eight).cases
    (eight.data / f"{case.name}.image.npy").unlink()
    (eight.data / f"{other.name}.mask.npy").write_bytes(b"")
    with pytest.raises(CaseError, match=f"{case.name}.image.npy is missing or damaged"):
        case.image()
    with pytest.raises(CaseError, match=f"{other.name}.mask.npy is missing or damaged"):
        other.mask()


def test_unprepared_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="python -m training prepare"):
        PreparedDataset.load(tmp_path)


def test_configuration_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="source=FOLDER"):
        prepare(configuration(tmp_path, source=None))


def test_source_without_a_usable_case_says_why(tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "P_1", value=2)
    with pytest.raises(CaseError, match="None of 1 cases can be used; the first, P_1: the label map is empty"):
        prepare(configuration(tmp_path))


@pytest.mark.skipif(not SARCOMAS.is_dir(), reason="the sarcoma scans are not in ../shared/data")
def test_command_prepares_real_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["image,mask,patient,split"]
    for name, split in (("STS_004_MR_T1", "train"), ("STS_048_MR_T1", "validation")):
        rows.append(f"{SARCOMAS.resolve() / name}_image.nii.gz,{SARCOMAS.resolve() / name}_label.nii.gz,{name},{split}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    changes = [f"source={tmp_path / 'cases.csv'}", f"data={tmp_path / 'data'}", "layout=csv", "workers=1", "spacing=2"]
    assert main(["prepare", "--config", "training/configs/sarcoma.yaml", "--set", *changes]) == 0
    assert "2 cases (train 1 of 1 patients; validation 1 of 1 patients" in capsys.readouterr().out
    for case in PreparedDataset.load(tmp_path / "data").cases:
        native = nibabel.load(SARCOMAS / f"{case.patient}_label.nii.gz")
        millilitres = np.asarray(native.dataobj).sum() * np.prod(native.header.get_zooms())
        assert case.foreground * 8 == pytest.approx(millilitres, rel=0.03)
