"""The arithmetic between voxels, crops and RAS millimetres, on random grids and on the same file in other readers."""

from __future__ import annotations

import tracemalloc
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.errors import ClickOutsideError, ScanError
from SAM3DSegmentLib.geometry import Crop, Volume, resampling_matrix
from SAM3DSegmentLib.scan import read_scan

REAL_SCAN = Path(__file__).parents[2] / "shared/data/test/STS_001raw_MR_T2FS_image.nii.gz"

on_random_grids = settings(max_examples=60, deadline=None)


def rotation(quaternion: tuple[float, float, float, float]) -> np.ndarray:
    w, x, y, z = np.divide(quaternion, np.linalg.norm(quaternion))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def make_volume(shape, spacing, directions, origin, seed=0) -> Volume:
    """Spacing along I, J, K; directions [3, 3] with one column for each of them."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = origin
    return Volume(np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16), affine)


@st.composite
def volumes(draw) -> Volume:
    """Oblique, left- and right-handed, anisotropic, some axes one voxel thick."""
    part = st.floats(-1, 1)
    quaternion = draw(st.tuples(part, part, part, part).filter(lambda q: np.linalg.norm(q) > 0.1))
    hand = draw(st.sampled_from([1, -1]))
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.8, 4)] * 3))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return make_volume(shape, spacing, rotation(quaternion) * [hand, 1, 1], origin, draw(st.integers(0, 9)))


def a_voxel(draw: st.DataObject, volume: Volume) -> tuple[int, int, int]:
    return draw.draw(st.tuples(*[st.integers(0, n - 1) for n in volume.voxels.shape]))


def crop_over_all(volume: Volume, middle: tuple[float, float, float], spacing: float) -> Crop:
    """A crop around a voxel of the volume, large enough to hold all of it."""
    longest = sum(n * s for n, s in zip(volume.voxels.shape, volume.spacing, strict=True))
    size = 2 * int(np.ceil(longest / spacing)) + 3
    whole = volume.crop_around(volume.ras(middle), spacing, (size, size, size))
    corners = [whole.position(c) for c in product(*[(-0.5, n - 0.5) for n in volume.voxels.shape])]
    low = np.floor(np.min(corners, axis=0)).astype(int) - 1
    high = np.ceil(np.max(corners, axis=0)).astype(int) + 2
    return whole.part(tuple(low), tuple(high - low))


@on_random_grids
@given(volumes(), st.data(), st.tuples(*[st.floats(-0.49, 0.49)] * 3))
def test_a_click_comes_back_to_the_voxel_it_was_made_in(volume, draw, offset):
    index = a_voxel(draw, volume)
    ras = volume.ras(tuple(np.add(index, offset)))
    assert volume.index(ras) == index
    crop = volume.crop_around(ras, 1.5, (8, 6, 4))
    assert tuple(np.round(crop.native_index((4, 3, 2)))) == pytest.approx(index)


@on_random_grids
@given(volumes(), st.integers(0, 2), st.sampled_from([-1, 1]))
def test_a_click_beyond_any_face_is_refused(volume, axis, side):
    index = [(n - 1) / 2 for n in volume.voxels.shape]
    index[axis] += side * (volume.voxels.shape[axis] / 2 + 0.01)
    with pytest.raises(ClickOutsideError, match="click inside it"):
        volume.index(volume.ras(tuple(index)))


@on_random_grids
@given(volumes(), st.data(), st.floats(0.3, 8), st.tuples(*[st.floats(-50, 50)] * 3))
def test_crop_position_and_native_index_are_inverses_in_millimetres(volume, draw, spacing, position):
    crop = volume.crop_around(volume.ras(a_voxel(draw, volume)), spacing, (5, 6, 7))
    assert crop.position(crop.native_index(position)) == pytest.approx(position, abs=1e-6)
    here = np.array(volume.ras(crop.native_index(position)))
    for axis in range(3):
        there = volume.ras(crop.native_index(tuple(np.add(position, np.eye(3)[axis]))))
        assert np.linalg.norm(here - there) == pytest.approx(spacing, rel=1e-6)


@on_random_grids
@given(
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(-0.12, 0.12)] * 3),
)
def test_crops_run_to_superior_anterior_right_whatever_the_order_of_the_voxels(order, senses, tilt):
    directions = rotation((1, *tilt)) @ (np.eye(3)[:, order] * senses)
    volume = make_volume((4, 5, 6), (1, 2, 3), directions, (10, 20, 30))
    crop = volume.crop_around(volume.ras((1, 1, 1)), 2.0, (4, 4, 4))
    origin = np.array(volume.ras(crop.native_index((0, 0, 0))))
    for axis, towards in enumerate(([0, 0, 1], [0, 1, 0], [1, 0, 0])):
        step = np.array(volume.ras(crop.native_index(tuple(np.eye(3)[axis])))) - origin
        assert step @ towards > 0.9 * np.linalg.norm(step)


@on_random_grids
@given(volumes(), st.data())
def test_a_crop_of_the_native_grid_holds_the_voxels_themselves(volume, draw):
    (d, h, w), senses = volume.crop_axes
    shape = tuple(volume.voxels.shape[axis] for axis in (d, h, w))
    start = tuple(0.0 if sense > 0 else n - 1.0 for sense, n in zip(senses, shape, strict=True))
    values, inside = Crop((d, h, w), start, senses, shape).cut(volume.voxels)
    flips = tuple(slice(None, None, int(sense)) for sense in senses)
    assert inside.all()
    np.testing.assert_array_equal(values, volume.voxels.transpose(d, h, w)[flips])


@on_random_grids
@given(volumes(), st.data())
def test_what_lies_outside_the_volume_is_told(volume, draw):
    crop = volume.crop_around(volume.ras(a_voxel(draw, volume)), 1.7, (9, 8, 7))
    _, inside = crop.cut(volume.voxels)
    for position in np.ndindex(9, 8, 7):
        native = np.array(crop.native_index(position))
        if (
            np.abs(np.abs(native - (np.array(volume.voxels.shape) - 1) / 2) - np.array(volume.voxels.shape) / 2).min()
            > 1e-6
        ):
            assert inside[position] == np.all((native > -0.5) & (native < np.array(volume.voxels.shape) - 0.5))


@on_random_grids
@given(volumes(), st.data(), st.floats(0.2, 0.45))
def test_a_mask_brought_back_from_a_crop_lands_where_it_was_cut(volume, draw, fineness):
    shape = volume.voxels.shape
    starts = [draw.draw(st.integers(0, max(0, n - 2))) for n in shape]
    stops = [draw.draw(st.integers(min(a + 2, n), n)) for a, n in zip(starts, shape, strict=True)]
    mask = np.zeros(shape, bool)
    mask[tuple(map(slice, starts, stops))] = True
    crop = crop_over_all(volume, a_voxel(draw, volume), fineness * min(volume.spacing))
    values, inside = crop.cut(mask)
    box, pasted = crop.paste_positive(np.where(inside, values, 0) - 0.5, shape)
    assert box == tuple(map(slice, starts, stops))
    assert pasted.all()


@on_random_grids
@given(volumes(), st.data(), st.floats(0.4, 5), st.integers(0, 99))
def test_bringing_back_a_part_of_a_crop_equals_bringing_back_all_of_it(volume, draw, spacing, seed):
    rng = np.random.default_rng(seed)
    crop = volume.crop_around(volume.ras(a_voxel(draw, volume)), spacing, (9, 10, 11))
    logits = np.full(crop.shape, -1.0)
    first = rng.integers(0, 9)
    np.moveaxis(logits, rng.integers(0, 3), 0)[first : first + 2] = rng.uniform(1, 20)
    shape = volume.voxels.shape
    expected = logits
    for axis in range(3):
        native = np.arange(shape[crop.axes[axis]])
        positions = (native - crop.start[axis]) / crop.step[axis]
        matrix = resampling_matrix(positions, abs(1 / crop.step[axis]), crop.shape[axis]).astype(float)
        matrix[(positions < -0.5) | (positions > crop.shape[axis] - 0.5)] = 0
        expected = np.moveaxis(np.tensordot(matrix, expected, (1, axis)), 0, axis)
    expected = expected.transpose(np.argsort(crop.axes))
    box, mask = crop.paste_positive(logits, shape)
    whole = np.zeros(shape, bool)
    whole[box] = mask
    clear = np.abs(expected) > 1e-4
    np.testing.assert_array_equal(whole[clear], expected[clear] > 0)


@on_random_grids
@given(volumes().filter(lambda v: max(v.voxels.shape) > 1), st.data())
def test_a_mask_that_lies_between_voxel_centres_comes_back_empty(volume, draw):
    axis = int(np.argmax(volume.voxels.shape))
    index = [0.0, 0.0, 0.0]
    index[axis] = draw.draw(st.integers(0, volume.voxels.shape[axis] - 2)) + 0.5
    crop = volume.crop_around(volume.ras(tuple(index)), 0.1, (1, 1, 1))
    box, mask = crop.paste_positive(np.ones((1, 1, 1)), volume.voxels.shape)
    assert box == (slice(0, 0),) * 3
    assert mask.size == 0


@on_random_grids
@given(volumes(), st.integers(0, 2), st.sampled_from([-1, 1]))
def test_a_mask_wholly_outside_the_volume_comes_back_empty(volume, axis, side):
    index = [0.0, 0.0, 0.0]
    index[axis] = side * 1000.0
    crop = volume.crop_around(volume.ras(tuple(index)), 1.0, (6, 6, 6))
    box, mask = crop.paste_positive(np.ones((6, 6, 6)), volume.voxels.shape)
    assert box == (slice(0, 0),) * 3
    assert mask.size == 0


@on_random_grids
@given(st.tuples(*[st.floats(1, 4)] * 3), st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 99))
def test_averaging_into_coarser_voxels_keeps_the_mean(widths, shape, seed):
    sizes = [max(1, round(n * w)) for n, w in zip(shape, widths, strict=True)]
    steps = [size / n for size, n in zip(sizes, shape, strict=True)]
    voxels = np.random.default_rng(seed).normal(size=sizes)
    crop = Crop((0, 1, 2), tuple((step - 1) / 2 for step in steps), tuple(steps), shape)
    if min(steps) >= 1:
        assert crop.cut(voxels)[0].mean() == pytest.approx(voxels.mean(), abs=1e-5)


def test_a_part_of_a_crop_holds_the_same_voxels():
    volume = make_volume((9, 8, 7), (1, 2, 3), rotation((1, 0.2, 0.1, 0.3)), (5, 6, 7))
    crop = volume.crop_around(volume.ras((4, 4, 4)), 1.3, (8, 8, 8))
    part = crop.part((2, 3, 4), (4, 3, 2))
    np.testing.assert_allclose(
        part.cut(volume.voxels)[0], crop.cut(volume.voxels)[0][2:6, 3:6, 4:6], rtol=1e-4, atol=0.1
    )


def test_cutting_a_coarse_crop_from_a_large_volume_takes_little_memory():
    volume = Volume(np.zeros((300, 512, 512), np.int16), np.diag([0.7, 0.7, 1.0, 1.0]))
    crop = volume.crop_around(volume.ras((150, 256, 256)), 6.0, (64, 64, 64))
    tracemalloc.start()
    crop.cut(volume.voxels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6 < volume.voxels.nbytes


@pytest.mark.parametrize("affine", [np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan), np.diag([1.0, np.inf, 1, 1])])
def test_an_affine_that_places_nothing_is_refused(affine):
    with pytest.raises(ScanError, match="correct its header"):
        Volume(np.zeros((2, 2, 2)), affine)


def assert_same_centres(volume: Volume, path: Path, through_itk: bool = True) -> None:
    """Voxel centres and values against nibabel or SimpleITK (whose system is LPS) on the file itself."""
    shape = volume.voxels.shape
    if through_itk:
        image = SimpleITK.ReadImage(str(path))
        other = SimpleITK.GetArrayFromImage(image)
    else:
        image = nibabel.load(path)
        other = np.asanyarray(image.dataobj).T
    assert other.shape == shape
    np.testing.assert_array_equal(volume.voxels, other)
    for k, j, i in product(*[sorted({0, n // 2, n - 1}) for n in shape]):
        if through_itk:
            centre = np.array(image.TransformIndexToPhysicalPoint((i, j, k))) * [-1, -1, 1]
        else:
            centre = nibabel.affines.apply_affine(image.affine, (i, j, k))
        np.testing.assert_allclose(volume.ras((k, j, i)), centre, atol=1e-3)
        assert volume.index(tuple(centre)) == (k, j, i)


@pytest.mark.parametrize("hand", [1, -1])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_voxel_centres_agree_with_simpleitk_and_nibabel(tmp_path, hand, order):
    directions = rotation((1, 0.1, -0.2, 0.15))[:, order] * [hand, 1, 1]
    written = make_volume((3, 4, 5), (0.7, 1.3, 4.0), directions, (-31, 22, 505), seed=3)
    nifti = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(written.voxels.T, written.ijk_to_ras), nifti)
    volume = read_scan(nifti)
    assert_same_centres(volume, nifti)
    assert_same_centres(volume, nifti, through_itk=False)
    image = SimpleITK.GetImageFromArray(written.voxels)
    image.SetSpacing((0.7, 1.3, 4.0))
    image.SetDirection((directions * [[-1], [-1], [1]]).ravel())
    image.SetOrigin((31, -22, 505))
    for name in ("scan.nrrd", "scan.mha"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        volume = read_scan(tmp_path / name)
        assert_same_centres(volume, tmp_path / name)
        np.testing.assert_allclose(volume.ijk_to_ras, written.ijk_to_ras, atol=1e-5)


def test_voxel_centres_of_a_real_oblique_scan_agree_with_simpleitk_and_nibabel():
    if not REAL_SCAN.exists():
        pytest.skip(f"the test scans are not at {REAL_SCAN.parent}")
    volume = read_scan(REAL_SCAN)
    assert_same_centres(volume, REAL_SCAN)
    assert_same_centres(volume, REAL_SCAN, through_itk=False)
