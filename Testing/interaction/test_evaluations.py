"""What the engine does meanwhile: its thread, newer clicks, cancelling, progress, failures, another engine."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from SAM3DSegmentLib.errors import CheckpointError, EngineError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.commands import COMMANDS
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.provenance import read_provenance
from SAM3DSegmentLib.scene.volumes import add_volume
from Testing.interaction.helpers import FakeEngine, balls, click, click_two_tumours, clicked, mask, settle


def test_every_evaluation_runs_in_one_thread_beside_the_interface(session, engine):
    clicked(session)
    click(session, "left", offset=(1, 1, 1))
    settle(session)
    assert len(engine.threads) == 1 and threading.current_thread().name not in engine.threads


def test_the_engine_starts_before_the_first_click(session, engine):
    time.sleep(0.05)
    session.poll()
    assert engine.started == 1 and session.status.device == "cpu"


def test_a_newer_click_supersedes_the_older_evaluation(session, engine):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    click(session, "left", offset=(2, 0, 0))
    session.poll()
    engine.gate.set()
    settle(session)
    record = read_provenance(session.segmentation_node, session.tumour.target.segment_id)
    assert len(record.clicks) == 2


def test_cancel_keeps_mask_and_clicks(session, engine):
    before = clicked(session)
    engine.gate.clear()
    click(session, "left", include=False, offset=(0, 3, 0))
    session.poll()
    session.cancel()
    engine.gate.set()
    settle(session)
    assert (mask(session) == before).all() and len(session.clicks) == 2 and "Cancelled" in session.status.message


def test_progress_shows_after_a_moment_only(session, engine):
    engine.gate.clear()
    click(session, "left")
    session.poll()
    assert session.status.progress is None
    time.sleep(0.35)
    session.poll()
    assert session.status.progress == 0.5
    engine.gate.set()
    settle(session)
    assert session.status.progress is None


@pytest.mark.parametrize("failure", [EngineError("The engine is gone: choose another."), ZeroDivisionError("bug")])
def test_failure_is_one_sentence_and_the_next_click_works(session, engine, failure):
    engine.failure = failure
    click(session, "left")
    settle(session)
    assert session.status.failed and str(failure) in session.status.message
    engine.failure = None
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert not session.status.failed and mask(session).any() and len(session.clicks) == 2


def test_clicks_wait_for_an_engine(scene, volume, engine):
    session = Session(scene)
    session.choose_volume(volume)
    session.place(include=True)
    click(session, "left")
    session.poll()
    assert session.engine_wanted and len(session.clicks) == 1
    session.use_engine(engine)
    settle(session)
    assert mask(session).any() and not session.engine_wanted
    session.close()


def test_escape_takes_no_click_away_that_waits_for_an_engine(session, engine):
    session.use_engine(None)
    click(session, "left")
    session.poll()
    COMMANDS["escape"](session)
    assert session.engine_wanted
    session.use_engine(engine)
    settle(session)
    assert mask(session).any()


def test_another_engine_takes_over_and_the_old_one_is_ended(session, engine):
    clicked(session)
    session.use_engine(other := FakeEngine(command=("another",)))
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert other.asked
    end = time.monotonic() + 5
    while not engine.closed and time.monotonic() < end:
        time.sleep(0.01)
    assert engine.closed == 1


def test_an_engine_of_the_same_command_goes_on_with_the_other_model(session, engine):
    clicked(session)
    session.use_engine(FakeEngine(choice=("kits", "cpu")))
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert engine.choice == ("kits", "cpu")
    assert engine.started == 1 and not engine.closed


def test_where_another_model_cannot_be_loaded_the_present_one_answers(session, engine):
    engine.device = "cuda"
    clicked(session)
    engine.failure = CheckpointError("kits.safetensors is damaged: import it again.")
    session.use_engine(FakeEngine(choice=("kits", "cpu")))
    end = time.monotonic() + 5
    while not session.status.failed and time.monotonic() < end:
        session.poll()
        time.sleep(0.01)
    assert session.status.message.startswith("kits.safetensors is damaged: import it again. ")
    assert "stays in use" in session.status.message and session.status.device == "cuda"
    engine.failure = None
    asked = len(engine.asked)
    click(session, "left", offset=(0, 0, 8))
    settle(session)
    assert len(engine.asked) > asked and mask(session).any() and not session.status.failed


def test_a_model_that_cannot_be_loaded_is_told_of_beside_the_answer_of_the_present_one(session, engine):
    loaded = threading.Event()

    def refuse(model, device):
        loaded.wait(5)
        raise CheckpointError("kits.safetensors is damaged: import it again.")

    engine.load = refuse
    engine.gate.clear()
    click(session, "left")
    session.poll()
    session.use_engine(FakeEngine(choice=("kits", "cpu")))
    loaded.set()
    engine.gate.set()
    settle(session)
    assert mask(session).any() and session.status.failed and "kits.safetensors is damaged" in session.status.message


def test_a_scan_that_cannot_be_segmented_any_more_keeps_no_other_tumour_waiting(session, engine):
    session.use_engine(None)
    clicked(session)
    good, spoilt = session.volume_node, add_volume(session._scene, Volume(balls(), np.eye(4)), "spoilt")
    first = session.tumour.target.segment_id
    found = session.segmentation_node
    session.choose_volume(spoilt)
    session.place(include=True)
    click(session, "right")
    session.poll()
    session.choose_volume(good)
    session.next_tumour()
    session.place(include=True)
    click(session, "right")
    session.poll()
    spoilt.SetAndObserveImageData(None)
    session.use_engine(engine)
    assert session.status.failed
    settle(session)
    assert session.segmentation_node is found and mask(session, first).any() and mask(session).any()


def test_clicks_without_an_answer_are_asked_again_of_the_next_engine(session, engine):
    engine.gate.clear()
    first = click_two_tumours(session)
    session.use_engine(None)
    assert session.engine_wanted
    session.use_engine(FakeEngine(command=("another",)))
    settle(session)
    assert mask(session, first).any() and mask(session).any() and not session.engine_wanted


def test_a_network_that_had_to_leave_the_gpu_is_told_of(session, engine):
    engine.device = "cuda"
    clicked(session)
    assert session.status.device == "cuda" and not session.status.message
    engine.device = "cpu"
    click(session, "left", offset=(1, 0, 0))
    settle(session)
    assert session.status.device == "cpu" and "memory did not suffice" in session.status.message


def test_no_model_is_said_to_stay_in_use_where_none_was(session, scene, volume):
    class Modelless(FakeEngine):
        device = property(lambda self: self.load("", ""))

    broken = Modelless(choice=("mine", "cpu"))
    broken.failure = CheckpointError("mine is damaged.")
    session.use_engine(None)
    session.use_engine(broken)
    for choice in ("mine", "other"):
        end = time.monotonic() + 5
        while not session.status.failed and time.monotonic() < end:
            session.poll()
            time.sleep(0.01)
        assert session.status.message == "mine is damaged."
        session.use_engine(FakeEngine(choice=(choice, "cpu")))
