"""How a session shows its tumours, and the files that it writes."""

from __future__ import annotations

from SAM3DSegmentLib.interaction.display import Display
from SAM3DSegmentLib.scene.segments import read_mask
from Testing.interaction.helpers import click, clicked, settle
from Testing.scene_helpers import node_ids


def test_display_applies_to_clicks_outline_and_surface(session):
    clicked(session)
    session.set_display(Display(clicks=False, outline_only=True, surface=True))
    display = session.segmentation_node.GetDisplayNode()
    assert not display.GetVisibility2DFill() and not session.tumour.lists.include.GetDisplayNode().GetVisibility()
    assert session.segmentation_node.GetSegmentation().ContainsRepresentation("Closed surface")
    session.set_display(Display())
    assert display.GetVisibility2DFill()
    assert not session.segmentation_node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_what_the_last_click_changed_is_shown_and_leaves_no_trace(session, scene):
    clicked(session)
    before = node_ids(scene)
    session.set_display(Display(changes=True))
    click(session, "left", include=False, offset=(0, 5, 0))
    settle(session)
    node = scene.GetFirstNodeByName("Last change")
    removed = node.GetSegmentation().GetNthSegmentID(1)
    assert node.GetHideFromEditors() and not node.GetSaveWithScene()
    assert read_mask(node, removed, session.volume_node)[1].any()
    session.set_display(Display())
    assert scene.GetFirstNodeByName("Last change") is None
    assert node_ids(scene) == before


def test_export_writes_every_tumour_and_tells_of_a_bad_target(session, tmp_path):
    clicked(session)
    session.export(tmp_path / "out.seg.nrrd")
    assert (tmp_path / "out.seg.nrrd").is_file() and not session.status.failed
    session.export(tmp_path / "out.xyz")
    assert session.status.failed
