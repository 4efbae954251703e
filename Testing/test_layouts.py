"""Layouts of data sets: where each keeps its scans, masks and patients, and what is no such layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from SAM3DSegmentLib.errors import CaseError
from Testing.source_scans import label_map, scan, write, write_pair
from training.configuration import Layout
from training.layouts import find_cases


def kits(root: Path) -> None:
    write(root / "case_00001" / "imaging.nii.gz", scan())
    write(root / "case_00001" / "segmentation.nii.gz", label_map())
    write(root / "case_00002" / "imaging.nii.gz", scan())
    write(root / "case_00002" / "aggregated_MAJ_seg.nii.gz", label_map())


def lits(root: Path) -> None:
    for n in (1, 10):
        write(root / "batch" / f"volume-{n}.nii", scan())
        write(root / "batch" / f"segmentation-{n}.nii", label_map())


def decathlon(root: Path) -> None:
    pairs = []
    for n in (1, 2):
        write(root / "imagesTr" / f"x_{n}.nii.gz", scan())
        write(root / "labelsTr" / f"x_{n}.nii.gz", label_map())
        pairs.append({"image": f"./imagesTr/x_{n}.nii.gz", "label": f"./labelsTr/x_{n}.nii.gz"})
    (root / "dataset.json").write_text(json.dumps({"training": pairs}))


def nnunet(root: Path) -> None:
    for part, name in (("Tr", "a"), ("Ts", "b")):
        write(root / f"images{part}" / f"{name}_0000.nii.gz", scan())
        write(root / f"images{part}" / f"{name}_0001.nii.gz", scan())
        write(root / f"labels{part}" / f"{name}.nii.gz", label_map())


def pairs(root: Path) -> None:
    write_pair(root, "P_1_CT")
    write_pair(root, "P_2_MR_T1")
    (root / "._P_2_MR_T1_image.nii.gz").write_bytes(b"left by macOS")


@pytest.mark.parametrize(
    ("layout", "make", "names", "patients"),
    [
        ("kits", kits, ["case_00001", "case_00002"], ["case_00001", "case_00002"]),
        ("lits", lits, ["volume-1", "volume-10"], ["volume-1", "volume-10"]),
        ("decathlon", decathlon, ["x_1", "x_2"], ["x_1", "x_2"]),
        ("nnunet", nnunet, ["a", "b"], ["a", "b"]),
        ("pairs", pairs, ["P_1_CT", "P_2_MR_T1"], ["P_1", "P_2"]),
    ],
)
def test_each_layout_gives_its_scans_with_their_masks_and_patients(
    tmp_path: Path, layout: Layout, make: Callable[[Path], None], names: list[str], patients: list[str]
) -> None:
    make(tmp_path)
    cases = find_cases(layout, tmp_path)
    assert [case.name for case in cases] == names
    assert [case.patient for case in cases] == patients
    assert all(case.image.is_file() and case.mask.is_file() for case in cases)


def test_table_gives_scans_beside_it_with_their_split(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("image,mask,patient,split\na/ct.nii.gz,a/m.nii.gz,anna,train\nb/ct.nii.gz,b/m.nii.gz,bert,\n")
    first, second = find_cases("csv", table)
    assert (first.name, first.image, first.split) == ("anna_ct", tmp_path / "a" / "ct.nii.gz", "train")
    assert (second.name, second.patient, second.split) == ("bert_ct", "bert", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,mask\na,b\n", "Line 2 .* no 'patient'"),
        ("image,mask,patient,split\na,b,c,dev\n", "Line 2 .* the split 'dev'"),
        ("image,mask,patient\na.nii,b,c\na.nii,b,c\n", "2 cases .* the name 'c_a'"),
        ("image,mask,patient\n", "at least one line"),
    ],
)
def test_table_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(CaseError, match=said):
        find_cases("csv", tmp_path / "cases.csv")


@pytest.mark.parametrize("layout", ["kits", "lits", "decathlon", "nnunet", "pairs"])
def test_folder_of_another_layout_is_refused_with_what_was_expected(tmp_path: Path, layout: Layout) -> None:
    with pytest.raises(CaseError, match="does not have the layout"):
        find_cases(layout, tmp_path)
