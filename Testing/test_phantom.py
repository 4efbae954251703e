"""The phantom: the same for the same seed, oblique, and true to its lesions; and its picture."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.geometry import Volume, trim
from SAM3DSegmentLib.phantom import Phantom, make_phantom
from SAM3DSegmentLib.picture import PIXELS, draw_segmentation


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom()


def test_a_seed_makes_the_same_phantom_again_and_another_seed_another(phantom):
    np.testing.assert_array_equal(make_phantom().volume.voxels, phantom.volume.voxels)
    other = make_phantom(seed=1)
    assert (other.volume.voxels != phantom.volume.voxels).any()
    np.testing.assert_array_equal(other.labels, phantom.labels)


def test_the_grid_is_oblique_about_two_axes_and_anisotropic(phantom):
    assert phantom.volume.spacing == pytest.approx((3.0, 1.4, 1.4))
    directions = phantom.volume.ijk_to_ras[:3, :3] / (1.4, 1.4, 3.0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert min(np.abs(directions[[2, 2], [0, 1]])) > np.sin(np.radians(3))
    middle = (np.array(phantom.volume.voxels.shape) - 1) / 2
    assert phantom.volume.ras(tuple(middle)) == pytest.approx((0, 0, 0), abs=1e-9)


def test_each_click_lies_in_its_lesion_and_lesions_do_not_touch(phantom):
    assert sorted(np.unique(phantom.labels)) == [0, *(lesion.label for lesion in phantom.lesions)]
    for lesion in phantom.lesions:
        assert phantom.reference(lesion)[phantom.volume.index(lesion.click)]


def test_lesions_differ_from_the_tissue_around_them(phantom):
    contrasts = {}
    for lesion in phantom.lesions:
        mask = phantom.reference(lesion)
        k, j, i = phantom.volume.index(lesion.click)
        reach = int(lesion.diameter_mm)
        around = (
            slice(max(0, k - reach // 3), k + reach // 3),
            slice(j - reach, j + reach),
            slice(i - reach, i + reach),
        )
        inside, voxels = mask[around], phantom.volume.voxels[around]
        contrasts[lesion.name] = abs(np.median(voxels[inside]) - np.median(voxels[~inside]))
    assert min(contrasts.values()) > 10
    assert contrasts["lung nodule"] > 500


def test_edges_are_partial_volume_and_the_noise_is_correlated(phantom):
    voxels = phantom.volume.voxels.astype(float)
    liver = tuple(slice(c - 4, c + 5) for c in phantom.volume.index((60, 10, -8)))
    patch = voxels[liver] - voxels[liver].mean()
    neighbours = (patch[:, :, 1:] * patch[:, :, :-1]).mean() / (patch**2).mean()
    assert 5 < patch.std() < 30
    assert neighbours > 0.1
    nodule = phantom.reference(phantom.lesions[1])
    assert ((voxels[nodule] > -700) & (voxels[nodule] < -100)).any()


def test_the_phantom_needs_numpy_alone():
    absent = {"scipy", "torch", "SimpleITK", "nibabel", "matplotlib"}
    check = f"import sys, SAM3DSegmentLib.phantom, SAM3DSegmentLib.measure; assert not sys.modules.keys() & {absent}"
    subprocess.run([sys.executable, "-c", check], check=True)


def picture_of(path, volume: Volume, mask, clicks, reference=None) -> np.ndarray:
    """[rows, columns, 3], 0 to 1."""
    box, part = trim((slice(0, None),) * 3, mask)
    draw_segmentation(volume, box, part, clicks, path, reference=reference)
    return matplotlib.image.imread(path)[..., :3]


def coloured(picture: np.ndarray, red: bool, green: bool, blue: bool) -> np.ndarray:
    """[rows, columns], strong colours of these components alone."""
    channels = [picture[..., c] > 0.6 if on else picture[..., c] < 0.45 for c, on in enumerate((red, green, blue))]
    return np.logical_and.reduce(channels)


def test_the_picture_shows_outline_clicks_and_reference_in_three_planes(phantom, tmp_path):
    lesion = phantom.lesions[0]
    reference = phantom.reference(lesion)
    r, a, s = lesion.click
    clicks = [Click(lesion.click), Click((r - 8, a, s), include=False)]
    mask = reference.copy()
    mask[:, : phantom.volume.index(lesion.click)[1]] = False
    picture = picture_of(tmp_path / "lesion.png", phantom.volume, mask, clicks, reference)
    third = picture.shape[1] // 3
    for plane in range(3):
        shown = picture[:, plane * third : (plane + 1) * third]
        assert coloured(shown, False, True, False).sum() > 20, "include click"
        assert coloured(shown, True, True, False).sum() > 50, "mask"
    assert coloured(picture[:, :third], True, False, False).sum() > 20, "exclude click"
    assert ((picture[..., 2] > 0.8) & (picture[..., 0] < 0.4)).sum() > 50, "reference"


def test_the_patients_right_is_on_the_left_and_anterior_is_up(tmp_path):
    r, a, s = np.meshgrid(*[np.arange(-40, 41)] * 3, indexing="ij")
    voxels = ((r > 0) & (a > 0) & (s > 0)).astype(np.int16).transpose(2, 1, 0)
    affine = np.eye(4)
    affine[:3, 3] = -40
    volume = Volume(voxels * 100, affine)
    picture = picture_of(tmp_path / "corner.png", volume, np.zeros(voxels.shape, bool), [Click((1, 1, 1))]).mean(-1)
    third, middle = picture.shape[1] // 3, picture.shape[0] // 2
    for plane in range(3):
        shown = picture[:, plane * third : (plane + 1) * third]
        bright = shown[middle - 60 : middle - 30, third // 2 - 80 : third // 2 - 40].mean()
        dark = shown[middle + 40 : middle + 70, third // 2 + 40 : third // 2 + 80].mean()
        assert bright > dark + 0.3


def test_an_empty_mask_at_the_volumes_edge_can_be_drawn(tmp_path):
    volume = Volume(np.arange(24.0).reshape(1, 4, 6), np.eye(4))
    picture = picture_of(tmp_path / "empty.png", volume, np.zeros((1, 4, 6), bool), [Click((5, 3, 0))])
    assert picture.shape[1] > 3 * PIXELS


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, phantom):
    with pytest.raises(ExportError, match="choose another place"):
        picture_of(
            tmp_path / "absent" / "a.png", phantom.volume, phantom.labels == 1, [Click(phantom.lesions[0].click)]
        )
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ExportError):
        picture_of(tmp_path / "folder.png", phantom.volume, phantom.labels == 1, [Click(phantom.lesions[0].click)])
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]
