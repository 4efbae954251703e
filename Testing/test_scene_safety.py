"""Whatever the user does to one tumour, in whatever order: the others stay, undo is exact, a save fits together."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.provenance import read_provenance
from Testing.interaction.helpers import settle
from Testing.scene_helpers import save_and_reopen
from Testing.user_at_work import BALL_VOXELS, LightEngine, UserAtWork, assert_records_explain_masks

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def test_other_segments_stay_undo_is_exact_and_records_explain_masks_in_any_order_of_work() -> None:
    run_state_machine_as_test(UserAtWork, settings=settings(BOUNDED, max_examples=20, stateful_step_count=20))


@settings(BOUNDED, max_examples=6)
@given(first=st.lists(st.tuples(BALL_VOXELS, st.booleans()), max_size=3), last=BALL_VOXELS)
def test_a_scene_saved_before_the_answer_has_it_when_it_is_opened_again(first, last) -> None:
    user = UserAtWork()
    for voxel, include in first:
        user.change(lambda voxel=voxel, include=include: user.click(voxel, include))
    user.engine.gate.clear()
    user.click(last, True)
    made = user.session.clicks
    save_and_reopen(user.scene, Path(user.folder.name))
    opened = Session(user.scene)
    opened.use_engine(LightEngine())
    opened.choose_volume(user.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    settle(opened)
    assert len(made) == len(first) + 1 and opened.clicks == made
    assert_records_explain_masks(opened.segmentation_node, opened.volume_node, user.oracle)
    assert read_provenance(opened.segmentation_node, opened.tumour.target.segment_id).clicks == made
    opened.close()
    user.teardown()
