"""Masks go into segments and come back, other segments never change, and every segment says how it was made."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.provenance import Provenance, read_provenance, write_provenance
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segments import (
    CLOSED_SURFACE,
    add_segment,
    create_segmentation,
    read_mask,
    read_mask_on_own_grid,
    remove_segment,
)
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from Testing.scene_helpers import (
    DATA,
    SHAPE,
    TRANSFORMS,
    node_ids,
    on_grid,
    put_under,
    volume_node,
    whole,
    world_to_volume_ras,
)

RED = (1.0, 0.0, 0.0)
SHARED_LAYER, OWN_LAYERS = 1, 2


class Case:
    def __init__(self, scene, names=("A", "B"), **volume):
        self.volume = volume_node(scene, **volume)
        self.shape = volume_from_node(self.volume).voxels.shape
        self.segmentation = create_segmentation(self.volume, "Tumours")
        self.ids = [add_segment(self.segmentation, name, RED) for name in names]
        self.writer = SegmentWriter(scene)

    def write(self, segment_id, box, mask):
        return self.writer.write_mask(self.segmentation, segment_id, self.volume, box, mask)

    def read(self, segment_id):
        return on_grid(self.shape, read_mask(self.segmentation, segment_id, self.volume))


def noise(shape, seed):
    return np.random.default_rng(seed).random(shape) > 0.5


def block(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("handedness", [1, -1])
@pytest.mark.parametrize("shape", [SHAPE, (1, 20, 30), (7, 20, 1), (1, 1, 1)])
def test_mask_comes_back_voxel_for_voxel(scene, shape, handedness, transform):
    case = Case(scene, shape=shape, handedness=handedness, transform=transform)
    for seed in range(3):
        mask = noise(shape, seed) | block(shape, (0, 1), (0, 1), (0, 1))
        case.write(case.ids[0], whole(shape), mask)
        assert np.array_equal(case.read(case.ids[0]), mask)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_segment_lies_in_the_world_where_its_voxels_are(scene, transform):
    case = Case(scene, transform=transform)
    case.write(case.ids[0], (slice(3, 4), slice(10, 11), slice(12, 13)), np.ones((1, 1, 1), bool))
    centre = case.segmentation.GetSegmentCenterRAS(case.ids[0])
    index = volume_from_node(case.volume).continuous_index(world_to_volume_ras(case.volume, centre))
    assert index == pytest.approx((3, 10, 12), abs=0.51)


def test_read_mask_is_boxed_tightly(scene):
    case = Case(scene)
    case.write(case.ids[0], whole(SHAPE), block(SHAPE, (2, 4), (5, 9), (20, 30)))
    box, mask = read_mask(case.segmentation, case.ids[0], case.volume)
    assert box == (slice(2, 4), slice(5, 9), slice(20, 30))
    assert mask.all()


def test_empty_mask_clears_the_segment_and_it_can_be_written_again(scene):
    case = Case(scene)
    first, second = block(SHAPE, (0, 3), (0, 9), (0, 9)), block(SHAPE, (4, 7), (9, 20), (9, 30))
    empty = (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool)
    case.write(case.ids[0], *empty)
    for mask in (first, second):
        case.write(case.ids[0], whole(SHAPE), mask)
        assert np.array_equal(case.read(case.ids[0]), mask)
        case.write(case.ids[0], *empty)
        assert not case.read(case.ids[0]).any()
    assert case.segmentation.GetSegmentation().GetNumberOfSegments() == 2


def test_overlapping_segments_both_keep_all_their_voxels(scene):
    case = Case(scene)
    masks = [noise(SHAPE, 1), noise(SHAPE, 2)]
    for segment_id, mask in zip(case.ids, masks, strict=True):
        case.write(segment_id, whole(SHAPE), mask)
    assert case.segmentation.GetSegmentation().GetNumberOfLayers() == OWN_LAYERS
    for segment_id, mask in zip(case.ids, masks, strict=True):
        assert np.array_equal(case.read(segment_id), mask)


edits = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(["write", "clear", "undo"])),
    min_size=1,
    max_size=10,
)


@settings(max_examples=40, deadline=None)
@given(edits, st.sampled_from([1, -1]), st.sampled_from(TRANSFORMS), st.booleans())
def test_other_segments_never_change(edits, handedness, transform, user_overwrites_all):
    scene = boot_scene()
    case = Case(scene, "ABC", handedness=handedness, transform=transform)
    if user_overwrites_all:
        editor = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        editor.SetAndObserveSegmentationNode(case.segmentation)
        editor.SetOverwriteMode(editor.OverwriteAllSegments)
    states = [[np.zeros(SHAPE, bool)] * 3]
    for number, seed, density, action in edits:
        rng = np.random.default_rng(seed)
        low = [int(rng.integers(0, n)) for n in SHAPE]
        high = [int(rng.integers(first + 1, n + 1)) for first, n in zip(low, SHAPE, strict=True)]
        box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        shape = [last - first for first, last in zip(low, high, strict=True)]
        mask = rng.random(shape) < (density if action == "write" else 0)
        if action == "undo":
            case.writer.undo()
            states = states[:-1] or states
        else:
            expected = [*states[-1]]
            expected[number] = on_grid(SHAPE, (box, mask))
            case.write(case.ids[number], box, mask)
            if not np.array_equal(expected[number], states[-1][number]):
                states = [*states[-5:], expected]
        for segment_id, mask in zip(case.ids, states[-1], strict=True):
            assert np.array_equal(case.read(segment_id), mask)
    case.writer.close()
    scene.Clear(0)


def test_undo_and_redo_restore_the_masks(scene):
    case = Case(scene)
    masks = [noise(SHAPE, seed) for seed in range(3)]
    for mask in masks:
        case.write(case.ids[0], whole(SHAPE), mask)
    case.writer.undo()
    assert np.array_equal(case.read(case.ids[0]), masks[1])
    case.writer.undo()
    assert np.array_equal(case.read(case.ids[0]), masks[0])
    case.writer.redo()
    assert np.array_equal(case.read(case.ids[0]), masks[1])


def test_a_mask_that_is_there_already_is_no_step_to_undo(scene):
    case = Case(scene)
    for mask in (noise(SHAPE, 0), noise(SHAPE, 1), noise(SHAPE, 1)):
        case.write(case.ids[0], whole(SHAPE), mask)
    case.writer.undo()
    assert np.array_equal(case.read(case.ids[0]), noise(SHAPE, 0))


def test_mask_reaches_a_segmentation_under_another_transform(scene):
    case = Case(scene)
    put_under(case.volume, "linear")
    mask = block(SHAPE, (2, 5), (4, 16), (5, 25))
    case.write(case.ids[0], whole(SHAPE), mask)
    centre = case.segmentation.GetSegmentCenterRAS(case.ids[0])
    index = volume_from_node(case.volume).continuous_index(world_to_volume_ras(case.volume, centre))
    assert index == pytest.approx((3, 9.5, 14.5), abs=1)
    again = case.read(case.ids[0])
    assert 2 * (again & mask).sum() / (again.sum() + mask.sum()) > 0.8


def test_segment_on_another_grid_is_read_and_changed_on_the_volumes(scene):
    case = Case(scene)
    coarse = add_volume(scene, Volume(np.zeros((7, 10, 15)), volume_from_node(case.volume).ijk_to_ras), "coarse")
    spacing = np.array(coarse.GetSpacing())
    coarse.SetSpacing(*(spacing * (2, 2, 1)))
    segmentation = create_segmentation(coarse, "Coarse")
    segment_id = add_segment(segmentation, "A", RED)
    case.writer.write_mask(segmentation, segment_id, coarse, *boxed(block((7, 10, 15), (1, 4), (2, 6), (3, 9))))
    here = on_grid(SHAPE, read_mask(segmentation, segment_id, case.volume))
    inner, outer = block(SHAPE, (1, 4), (4, 11), (6, 17)), block(SHAPE, (1, 4), (3, 13), (5, 19))
    assert here[inner].all() and not here[~outer].any()
    case.writer.write_mask(segmentation, segment_id, case.volume, *boxed(block(SHAPE, (4, 6), (8, 16), (20, 28))))
    moved = on_grid(SHAPE, read_mask(segmentation, segment_id, case.volume))
    assert moved[block(SHAPE, (4, 6), (9, 15), (21, 27))].all()
    assert not moved[:4].any()


def boxed(mask):
    return whole(mask.shape), mask


def off_the_grid(case, reason):
    """Segment A is a block that the case's new volume does not hold as it is."""
    case.write(case.ids[0], whole(SHAPE), block(SHAPE, (2, 7), (4, 17), (5, 26)))
    if reason == "another transform":
        put_under(case.volume, "nonlinear")
        return
    shape = (7, 10, 15) if reason == "another spacing" else (5, 20, 20)
    case.volume = add_volume(
        case.volume.GetScene(), Volume(np.zeros(shape), volume_from_node(case.volume).ijk_to_ras), ""
    )
    if reason == "another spacing":
        case.volume.SetSpacing(*(np.array(case.volume.GetSpacing()) * (2, 2, 1)))
    case.shape = shape


@pytest.mark.parametrize("reason", ["another spacing", "voxels beyond the volume", "another transform"])
def test_a_segment_off_the_grid_loses_nothing_where_nothing_changes(scene, reason):
    case = Case(scene)
    off_the_grid(case, reason)
    box, before = read_mask_on_own_grid(case.segmentation, case.ids[0])
    there = case.read(case.ids[0])
    assert there.any() and not case.write(case.ids[0], *boxed(there))
    after = read_mask_on_own_grid(case.segmentation, case.ids[0])
    assert after[0] == box and np.array_equal(after[1], before)
    there[0, 0, 0] = True
    assert case.write(case.ids[0], *boxed(there)), "a change brings it to the volume's voxels, and that is told"
    found = case.read(case.ids[0])
    assert 2 * (found & there).sum() / (found.sum() + there.sum()) > 0.8


def test_a_grid_that_was_cropped_by_whole_voxels_costs_nothing(scene):
    case = Case(scene)
    affine = volume_from_node(case.volume).ijk_to_ras.copy()
    affine[:3, 3] = (affine @ [3, 2, 1, 1])[:3]
    cropped = add_volume(scene, Volume(np.zeros((5, 10, 12)), affine), "cropped")
    segmentation = create_segmentation(cropped, "Cropped")
    segment_id = add_segment(segmentation, "A", RED)
    case.writer.write_mask(segmentation, segment_id, cropped, *boxed(block((5, 10, 12), (1, 4), (2, 6), (3, 9))))
    mask = block(SHAPE, (2, 5), (4, 8), (6, 12))
    assert np.array_equal(on_grid(SHAPE, read_mask(segmentation, segment_id, case.volume)), mask)
    mask[6, 6, 6] = True
    assert not case.writer.write_mask(segmentation, segment_id, case.volume, *boxed(mask))
    assert np.array_equal(on_grid(SHAPE, read_mask(segmentation, segment_id, case.volume)), mask)


def test_surfaces_stay_the_source_of_a_segment_until_it_changes(scene):
    case = Case(scene)
    case.write(case.ids[0], whole(SHAPE), block(SHAPE, (2, 5), (4, 16), (5, 25)))
    case.segmentation.CreateClosedSurfaceRepresentation()
    segmentation = case.segmentation.GetSegmentation()
    segmentation.SetSourceRepresentationName(CLOSED_SURFACE)
    surface = segmentation.GetSegment(case.ids[0]).GetRepresentation(CLOSED_SURFACE)
    there = case.read(case.ids[0])
    assert there.any() and not case.write(case.ids[0], *boxed(there))
    assert segmentation.GetSourceRepresentationName() == CLOSED_SURFACE
    assert segmentation.GetSegment(case.ids[0]).GetRepresentation(CLOSED_SURFACE) is surface
    there[3, 4:10] = False
    assert case.write(case.ids[0], *boxed(there)) and np.array_equal(case.read(case.ids[0]), there)
    assert segmentation.GetSourceRepresentationName() == "Binary labelmap"
    assert segmentation.ContainsRepresentation(CLOSED_SURFACE)


def test_part_of_a_segment_outside_the_volume_is_left_out(scene):
    case = Case(scene)
    case.write(case.ids[0], whole(SHAPE), np.ones(SHAPE, bool))
    small = volume_node(scene, shape=(3, 5, 6))
    box, mask = read_mask(case.segmentation, case.ids[0], small)
    assert box == whole((3, 5, 6)) and mask.all()
    small.SetOrigin(1000, 1000, 1000)
    assert not read_mask(case.segmentation, case.ids[0], small)[1].size


def test_surfaces_that_are_shown_stay_where_segments_share_a_layer(scene):
    case = Case(scene)
    for number, segment_id in enumerate(case.ids):
        case.write(segment_id, whole(SHAPE), block(SHAPE, (2, 5), (4, 16), (10 * number, 10 * number + 8)))
    segmentation = case.segmentation.GetSegmentation()
    segmentation.CollapseBinaryLabelmaps(False)
    case.segmentation.CreateClosedSurfaceRepresentation()
    assert segmentation.GetNumberOfLayers() == SHARED_LAYER
    case.write(case.ids[0], whole(SHAPE), block(SHAPE, (2, 4), (4, 16), (0, 8)))
    for segment_id in case.ids:
        assert segmentation.GetSegment(segment_id).GetRepresentation(CLOSED_SURFACE).GetNumberOfPoints()


def test_segment_keeps_its_name_colour_and_terminology(scene):
    case = Case(scene, ("Tümör 肿瘤", "B"))
    segment = case.segmentation.GetSegmentation().GetSegment(case.ids[0])
    assert (segment.GetName(), segment.GetColor()) == ("Tümör 肿瘤", RED)
    assert not segment.GetNameAutoGenerated() and not segment.GetColorAutoGenerated()
    assert "SCT^86049000^Neoplasm, Primary" in segment.GetTerminology()


def test_segmentation_shares_the_volumes_grid_and_transform(scene):
    case = Case(scene, transform="linear")
    role = case.segmentation.GetReferenceImageGeometryReferenceRole()
    assert case.segmentation.GetNodeReferenceID(role) == case.volume.GetID()
    assert case.segmentation.GetParentTransformNode() is case.volume.GetParentTransformNode()


def test_removed_segment_leaves_the_others(scene):
    case = Case(scene)
    for segment_id in case.ids:
        case.write(segment_id, whole(SHAPE), noise(SHAPE, 3))
    remove_segment(case.segmentation, case.ids[0])
    assert case.segmentation.GetSegmentation().GetSegmentIDs() == (case.ids[1],)
    assert np.array_equal(case.read(case.ids[1]), noise(SHAPE, 3))


def test_editor_node_is_hidden_unsaved_and_leaves_with_close(scene):
    case = Case(scene)
    before = node_ids(scene)
    case.write(case.ids[0], whole(SHAPE), noise(SHAPE, 0))
    (added,) = node_ids(scene) - before
    assert scene.GetNodeByID(added).GetHideFromEditors()
    assert not scene.GetNodeByID(added).GetSaveWithScene()
    case.writer.close()
    assert node_ids(scene) == before


def test_closing_the_scene_leaves_nothing_and_the_writer_goes_on_in_the_next(scene):
    scene.Clear(0)
    before = node_ids(scene)
    case = Case(scene)
    case.write(case.ids[0], whole(SHAPE), noise(SHAPE, 0))
    scene.Clear(0)
    assert node_ids(scene) <= before
    following = Case(scene)
    following.writer = case.writer
    following.write(following.ids[0], whole(SHAPE), noise(SHAPE, 1))
    assert np.array_equal(following.read(following.ids[0]), noise(SHAPE, 1))


PROVENANCE = Provenance(
    (Click((1 / 3, -2.5, 7.0)), Click((0.1, 0.2, 0.3), False)), "compact", "1.0", "ab" * 32, "0.1.0"
)


@pytest.mark.parametrize("model", ["compact", "a|b:c%d\\e\n", "Modèle 肿瘤", ""])
def test_record_of_a_segment_comes_back(scene, model):
    case = Case(scene)
    written = Provenance(PROVENANCE.clicks, model, "1.0", "ab" * 32, "0.1.0")
    write_provenance(case.segmentation, case.ids[0], written)
    assert read_provenance(case.segmentation, case.ids[0]) == written
    assert read_provenance(case.segmentation, case.ids[1]) is None


@pytest.mark.parametrize(
    "clicks", ["", "nonsense", "{}", "[1]", '[{"ras": [1, 2]}]', '[{"ras": [NaN, 1, 2], "include": true}]']
)
def test_damaged_record_is_no_record(scene, clicks):
    case = Case(scene)
    write_provenance(case.segmentation, case.ids[0], PROVENANCE)
    case.segmentation.GetSegmentation().GetSegment(case.ids[0]).SetTag("SAM3DSegment.Clicks", clicks)
    assert read_provenance(case.segmentation, case.ids[0]) is None


LABELS = sorted(DATA.glob("*_label.nii.gz"), key=lambda path: path.stat().st_size)[:4]


@pytest.mark.skipif(not LABELS, reason="the test scans (../shared/data/test) are absent")
@pytest.mark.parametrize("path", LABELS, ids=lambda path: path.name)
def test_structures_of_a_real_scan_come_back(scene, path):
    image = nibabel.load(path)
    node = add_volume(scene, Volume(np.asanyarray(image.dataobj).T, image.affine), path.name)
    labels = volume_from_node(node).voxels
    segmentation, writer = create_segmentation(node, "Structures"), SegmentWriter(scene)
    values = [int(value) for value in np.unique(labels) if value]
    ids = {value: add_segment(segmentation, str(value), RED) for value in values}
    for value in values:
        writer.write_mask(segmentation, ids[value], node, whole(labels.shape), labels == value)
    for value in values:
        assert np.array_equal(on_grid(labels.shape, read_mask(segmentation, ids[value], node)), labels == value)
