"""The panel of the browser viewer in Chromium: tumours' rows, display, models, device, and what is uploaded."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from Testing.test_scan import VOXELS, write_series
from Testing.viewer.process import ROOT, BallScan, ViewerProcess
from Testing.viewer.user import CHROMIUM, MILLISECONDS, User

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")

COMPACT = ROOT / "Resources" / "models" / "compact.safetensors"
ENGINE = [sys.executable, "-m", "SAM3DSegmentLib.engine"]


@pytest.fixture(scope="module")
def upload_limit() -> int:
    """MB, enough for a model."""
    return 20


@pytest.fixture
def ball(ball: User) -> User:
    """The user with the ball clicked on."""
    ball.click_ball()
    return ball


def test_one_engine_is_started_at_the_beginning(user: User) -> None:
    assert user.viewer.ask("engine_starts") == 1


def test_name_and_colour_of_a_tumour_are_changed_in_its_row(ball: User) -> None:
    ball.page.locator(".tumour input[type=text]").fill("Left kidney")
    ball.page.keyboard.press("Enter")
    ball.page.locator(".tumour input[type=color]").fill("#12ab34")
    rows = ball.viewer.wait_for("rows", lambda rows: rows[0]["color"] == "#12ab34")
    assert [row["name"] for row in rows] == ["Left kidney"]
    ball.page.reload()
    ball.wait_for_page()
    sync_api.expect(ball.page.locator(".tumour input[type=text]")).to_have_value("Left kidney", timeout=MILLISECONDS)
    sync_api.expect(ball.page.locator(".tumour input[type=color]")).to_have_value("#12ab34", timeout=MILLISECONDS)


def test_the_eye_hides_its_tumour_and_no_other(ball: User) -> None:
    ball.press("n")
    ball.click_ball(dx=130)
    mask = ball.viewer.mask()
    eye = ball.page.locator(".tumour").first.get_by_title("Show or hide")
    for visible in (False, True):
        eye.click()
        rows = ball.viewer.wait_for("rows", lambda rows, visible=visible: rows[0]["visible"] is visible)
        assert rows[1]["visible"]
    assert (ball.viewer.mask() == mask).all()


@pytest.mark.parametrize(
    ("label", "part", "ticked"),
    [
        ("Hide clicks", "clicks", False),
        ("Outline only", "fill", False),
        ("Show in 3D", "surface", True),
        ("Show last change", "changes", True),
    ],
)
def test_a_display_box_shows_and_hides_what_it_says(ball: User, label: str, part: str, ticked: bool) -> None:
    ball.unfold("Display")
    box = ball.page.get_by_label(label)
    for tick in (not box.is_checked(), box.is_checked()):
        box.set_checked(tick)
        ball.click_ball(dx=20 if tick else -20)
        ball.viewer.wait_for("display", lambda display, tick=tick: display[part] is (tick is ticked))


def test_removing_the_last_click_brings_the_mask_before_it_back(ball: User) -> None:
    before = ball.viewer.mask()
    ball.press("e")
    ball.click_ball(dx=-30)
    ball.page.get_by_role("button", name="Remove last").click()
    ball.viewer.wait_for("clicks", lambda clicks: len(clicks) == 1)
    ball.settle()
    assert (ball.viewer.mask() == before).all()


def test_another_device_is_another_engine_and_the_clicks_go_on(ball: User) -> None:
    ball.unfold("Device")
    ball.choose("Run on", "Automatic")
    ball.viewer.wait_for("engine", lambda engine: engine[:2] == ["compact", "auto"])
    ball.click_ball(dx=20)
    assert len(ball.viewer.ask("clicks")) == 2
    ball.choose("Run on", "CPU")
    ball.viewer.wait_for("engine", lambda engine: engine[:2] == ["compact", "cpu"])


def test_a_device_that_is_absent_is_told_of(ball: User) -> None:
    ball.unfold("Device")
    ball.choose("Run on", "MPS")
    sync_api.expect(ball.page.locator(".v-snackbar__content")).to_contain_text("mps", timeout=MILLISECONDS)
    ball.choose("Run on", "CPU")
    ball.click_ball(dx=20)
    assert ball.viewer.mask().any()


def test_an_imported_model_segments_and_is_deleted(ball: User, models: Path, tmp_path: Path) -> None:
    shutil.copy(COMPACT, tmp_path / "mine.safetensors")
    ball.unfold("Model")
    ball.page.locator("input[type=file]").nth(2).set_input_files(tmp_path / "mine.safetensors")
    ball.viewer.wait_for("engine", lambda engine: engine[0] == "mine")
    ball.click_ball(dx=20)
    assert ball.viewer.mask().any()
    assert (models / "mine.safetensors").exists()
    ball.viewer.wait_for_folder_without("mine")
    ball.page.get_by_role("button", name="Delete", exact=True).click()
    ball.viewer.wait_for("engine", lambda engine: engine[0] == "compact")
    assert not (models / "mine.safetensors").exists()


def test_a_file_that_is_no_model_is_refused_and_the_panel_stays_usable(ball: User, tmp_path: Path) -> None:
    (tmp_path / "note.pth").write_bytes(b"no checkpoint")
    tensors, described = load_file(COMPACT), safe_open(COMPACT, framework="np").metadata()
    tensors["head.bias"][:] = np.nan
    save_file(tensors, tmp_path / "spoilt.safetensors", described)
    ball.unfold("Model")
    for name, reason in (("note.pth", "no checkpoint"), ("spoilt.safetensors", "head.bias")):
        ball.page.locator("input[type=file]").nth(2).set_input_files(tmp_path / name)
        sync_api.expect(ball.page.locator(".v-snackbar__content")).to_contain_text(reason, timeout=MILLISECONDS)
    sync_api.expect(ball.page.get_by_role("button", name="Phantom")).to_be_enabled(timeout=MILLISECONDS)
    assert ball.viewer.ask("engine")[0] == "compact"


def test_a_download_shows_its_progress_and_is_cancelled_or_ends_with_the_model(ball: User, models: Path) -> None:
    ball.unfold("Model")
    ball.choose("Model", "SAM ViT-B, to train adapters on, or slice by slice (not on this computer)")
    sync_api.expect(ball.page.locator(".model-info")).to_contain_text("375 MB", timeout=MILLISECONDS)
    ball.viewer.ask("use_slow_download", 30.0)
    ball.page.get_by_role("button", name="Download").click()
    under_way = re.compile(r"[1-9]\d?")
    sync_api.expect(ball.page.locator(".download")).to_have_attribute("aria-valuenow", under_way, timeout=MILLISECONDS)
    ball.page.get_by_role("button", name="Cancel download").click()
    sync_api.expect(ball.page.locator(".v-snackbar__content")).to_contain_text("cancelled", timeout=MILLISECONDS)
    assert not list(models.glob("*.pth"))
    ball.viewer.ask("use_slow_download", 0.5)
    ball.page.get_by_role("button", name="Download").click()
    sync_api.expect(ball.page.get_by_role("button", name="Delete", exact=True)).to_be_enabled(timeout=MILLISECONDS)
    assert list(models.glob("*.pth"))
    ball.page.get_by_role("button", name="Delete", exact=True).click()
    ball.viewer.wait_for("engine", lambda engine: engine[0] == "compact")


def test_a_folder_of_dicom_is_opened_under_its_own_name(user: User, tmp_path: Path) -> None:
    series = write_series(tmp_path / "Thorax")
    user.page.locator("input[webkitdirectory]").set_input_files(series)
    user.viewer.wait_for("shape", lambda shape: shape == list(VOXELS.shape))
    sync_api.expect(user.page.locator(".v-select").first).to_contain_text("Thorax", timeout=MILLISECONDS)
    user.viewer.wait_for_folder_without(".dcm")


def test_an_upload_that_is_refused_leaves_the_panel_usable(user: User, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no scan")
    user.page.locator("input[type=file]").first.set_input_files(tmp_path / "note.txt")
    sync_api.expect(user.page.locator(".v-snackbar__content")).to_contain_text("note", timeout=MILLISECONDS)
    sync_api.expect(user.page.get_by_role("button", name="Phantom")).to_be_enabled(timeout=MILLISECONDS)


def test_no_command_can_be_given_in_the_page(user: User) -> None:
    user.unfold("Device")
    user.page.locator(".v-select").filter(has=user.page.get_by_text("Run on", exact=True)).first.click()
    options = user.page.get_by_role("option")
    sync_api.expect(options).to_have_text(["Automatic", "CUDA", "MPS", "CPU"], timeout=MILLISECONDS)
    user.page.keyboard.press("Escape")


def test_the_command_lines_engine_command_answers_the_clicks(user: User, scan: BallScan) -> None:
    with closing(ViewerProcess(str(scan.path), "--engine-command", shlex.join(ENGINE))) as viewer:
        someone = User(user.page.context.browser.new_page(), viewer)
        someone.arrive()
        viewer.ask("jump", scan.centre)
        someone.click_ball()
        assert viewer.mask().any()
        assert viewer.ask("engine") == ["compact", "auto", ENGINE]
        someone.unfold("Device")
        someone.choose("Run on", "CPU")
        viewer.wait_for("engine", lambda engine: engine[1] == "cpu")
