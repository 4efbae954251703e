"""The simulated user, the metrics and the table of cases, on masks of known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from SAM3DSegmentLib.errors import CaseError, ScanError
from SAM3DSegmentLib.evaluation.cases import Structure, patient_of, read_reference, read_structures
from SAM3DSegmentLib.evaluation.metrics import dice, surface_dice
from SAM3DSegmentLib.evaluation.simulated_user import next_click
from Testing.evaluation_cases import SPACING, TARGETS, ball, write_nifti


def test_first_click_is_the_deepest_voxel_of_the_target() -> None:
    click = next_click(ball((10, 16, 12), 7), None, SPACING, np.random.default_rng(0))
    assert click == ((10, 16, 12), True)


def test_depth_is_measured_in_millimetres_and_ends_at_the_volume() -> None:
    slab = np.zeros((3, 9, 5), bool)
    slab[:, :, :3] = True
    click = next_click(slab, None, (1.0, 1.0, 10.0), np.random.default_rng(0))
    assert click is not None
    assert click[0][0] == 1


def test_correction_goes_to_the_largest_error_and_takes_its_sign() -> None:
    reference = ball((10, 16, 8), 6)
    surplus = ball((10, 16, 24), 4)
    rng = np.random.default_rng(0)
    missed_small = reference & ~ball((10, 16, 8), 3)
    assert next_click(reference, reference | surplus, SPACING, rng) == ((10, 16, 24), False)
    click = next_click(reference, missed_small | surplus, SPACING, rng)
    assert click == ((10, 16, 24), False)
    assert next_click(reference, surplus, SPACING, rng) == ((10, 16, 8), True)


def test_errors_that_touch_at_a_corner_are_one_component() -> None:
    reference = np.zeros((6, 6, 6), bool)
    reference[:2, :2, :2] = True
    reference[2:4, 2:4, 2:4] = True
    reference[5, 5, 0:5] = True
    lonely = reference.copy()
    lonely[:4, :4, :4] = False
    click = next_click(reference, lonely, (1, 1, 1), np.random.default_rng(0))
    assert click is not None
    assert max(click[0]) < 4


def test_no_error_needs_no_click() -> None:
    reference = ball((10, 16, 12), 7)
    assert next_click(reference, reference, SPACING, np.random.default_rng(0)) is None


def test_noisy_user_clicks_inside_the_error_and_rather_deep_than_shallow() -> None:
    reference = ball((10, 16, 12), 7)
    rng = np.random.default_rng(0)
    clicks = [next_click(reference, None, SPACING, rng, noisy=True) for _ in range(300)]
    places = [click[0] for click in clicks if click]
    assert all(reference[place] for place in places)
    assert len(set(places)) > 100
    inner = ball((10, 16, 12), 3.5)
    assert np.mean([inner[place] for place in places]) > 1.3 * inner.sum() / reference.sum()


def test_dice_of_known_overlaps() -> None:
    first, second = np.zeros((2, 10, 10, 10), bool)
    first[:4], second[2:8] = True, True
    assert dice(first, second) == pytest.approx(2 * 2 / 10)
    assert dice(first, first) == 1
    assert dice(first, ~first) == 0
    assert dice(first & False, first & False) == 1


def test_surface_dice_jumps_at_the_distance_of_parallel_faces() -> None:
    first, second = np.zeros((2, 30, 20, 20), bool)
    first[5:15], second[5:18] = True, True
    below, at, above = surface_dice(first, second, (1.0, 1.0, 1.0), (2.9, 3.0, 5.0))
    assert below < 0.95 < at == above == 1
    assert surface_dice(first, second, (2.0, 1.0, 1.0), (5.9, 6.0))[1] == 1
    assert surface_dice(first, second, (2.0, 1.0, 1.0), (5.9, 6.0))[0] < 0.95


def test_surface_dice_of_an_empty_answer_is_zero() -> None:
    target = ball((10, 16, 12), 7)
    assert surface_dice(target, target & False, SPACING, (2.0, 5.0)) == (0, 0)
    assert surface_dice(target & False, target & False, SPACING, (2.0, 5.0)) == (1, 1)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("STS_003_CT", "STS_003"),
        ("STS_003_MR_T1", "STS_003"),
        ("STS_001raw_MR_T2FS", "STS_001raw"),
        ("4DLung_113_CT", "4DLung_113"),
        ("TS_example_ct_sm", "TS_example_ct_sm"),
    ],
)
def test_patient_is_the_case_without_its_modality(case: str, patient: str) -> None:
    assert patient_of(case) == patient


def test_structures_are_read_with_the_label_column_that_is_named(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("case\tvalue\nA_CT\t3\n")
    assert read_structures(table, "value") == [Structure("A_CT", 3, "label 3", "A")]


def test_the_table_says_who_the_patients_are_where_the_names_do_not(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("case\tlabel_value\tpatient\nanna_ct\t1\tanna\nanna_mr\t1\tanna\n")
    assert {structure.patient for structure in read_structures(table)} == {"anna"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists no case"),
        ("case\tlabel_value\n", "lists no case"),
        ("case\tlabel\nA\t1\n", "no column 'label_value'"),
        ("case\tlabel_value\nA\tone\n", "case A in .* no whole number"),
        ("case\tlabel_value\nA\n", "case A in .* no whole number"),
        ("case\tlabel_value\nA\t" + 5000 * "1" + "\n", "case A in .* no whole number"),
        ("case\tlabel\nA\t1\tsurplus\n", "no column 'label_value' .it has case, label"),
        ("label_value\tcase\n1\n", "with the label '1' names no case"),
        ("case\tlabel_value\n" + 200_000 * "A" + "\t1\n", "cannot be read"),
    ],
)
def test_table_that_cannot_be_right_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "t.tsv"
    table.write_text(content)
    with pytest.raises(CaseError, match=message):
        read_structures(table)


def test_a_table_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("\ufeffcase\tlabel_value\nA_CT\t1\n", encoding="utf-8")
    assert read_structures(table) == [Structure("A_CT", 1, "label 1", "A")]


def test_an_object_that_fills_the_whole_of_a_scan_is_read(data: Path) -> None:
    write_nifti(data / "P_001_CT_label.nii.gz", np.ones_like(TARGETS["P_001_CT"], np.uint8))
    _, reference = read_reference(data, Structure("P_001_CT", 1, "ball", "P_001"))
    assert reference.all()


def test_missing_table_or_scan_is_refused_by_name(data: Path) -> None:
    with pytest.raises(CaseError, match=r"absent\.tsv"):
        read_structures(data / "absent.tsv")
    with pytest.raises(ScanError, match="P_009_CT"):
        read_reference(data, Structure("P_009_CT", 1, "ball", "P_009"))
    (data / "P_002_CT_label.nii.gz").unlink()
    with pytest.raises(ScanError, match=r"no label map .*P_002_CT_label\.nii\.gz"):
        read_reference(data, Structure("P_002_CT", 1, "ball", "P_002"))


def test_label_of_another_grid_or_absent_label_is_refused_by_name(data: Path) -> None:
    with pytest.raises(CaseError, match="P_001_CT holds no voxel of label 7"):
        read_reference(data, Structure("P_001_CT", 7, "ball", "P_001"))
    moved = np.diag([*SPACING[::-1], 1.0])
    moved[0, 3] = 4
    write_nifti(data / "P_002_CT_label.nii.gz", TARGETS["P_002_CT"].astype(np.uint8), moved)
    with pytest.raises(CaseError, match="P_002_CT lie on different grids"):
        read_reference(data, Structure("P_002_CT", 1, "ball", "P_002"))


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("lung tumour", "tumours"),
        ("sarcoma GTV_Mass", "tumours"),
        ("GTV_Edema", "others"),
        ("kidney L", "others"),
        ("label 1", "others"),
    ],
)
def test_group_follows_from_the_name_of_the_structure(name: str, group: str) -> None:
    assert Structure("A_CT", 1, name, "A").group == group
