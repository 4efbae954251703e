"""The browser viewer, driven in Chromium: what a user does with mouse and keys, and what the scene holds then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK

from Testing.viewer.process import ROOT, BallScan
from Testing.viewer.user import AXIAL, CHROMIUM, CORONAL, MILLISECONDS, SAGITTAL, User

PANEL = ROOT / "SAM3DSegment" / "Resources" / "UI" / "SAM3DSegment.ui"

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")


def test_the_panel_has_the_modules_words(user: User) -> None:
    texts = {node.text or "" for node in ElementTree.parse(PANEL).iter("string")}
    for text in ("Include (I)", "Exclude (E)", "Undo", "Redo", "Remove last", "Clear", "Next tumour (N)", "Export"):
        assert text in texts
        assert user.page.get_by_role("button", name=text, exact=True).count() == 1
    for title in ("Tumours", "Model", "Device", "Display"):
        assert title in texts
        assert user.page.get_by_text(title, exact=True).count() >= 1


@pytest.mark.parametrize("view", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
def test_a_click_lies_on_the_voxel_under_the_cursor(ball: User, scan: BallScan, view: int) -> None:
    ball.click(*ball.pixel_of_ball(view))
    ((ras, include),) = ball.viewer.ask("clicks")
    assert include
    assert np.linalg.norm(np.subtract(ras, scan.centre)) < 0.5
    assert ball.viewer.mask().any()


def test_refining_undoing_and_redoing_follow_the_keys(ball: User) -> None:
    ball.click_ball()
    first = ball.viewer.mask()
    ball.press("e")
    ball.click_ball(dx=-45)
    second = ball.viewer.mask()
    assert [include for _, include in ball.viewer.ask("clicks")] == [True, False]
    assert (first != second).any()
    ball.press("Control+z")
    assert (ball.viewer.mask() == first).all()
    ball.press("Control+y")
    assert (ball.viewer.mask() == second).all()


def test_the_next_tumour_leaves_the_finished_one_alone(ball: User) -> None:
    ball.click_ball()
    finished = ball.viewer.mask()
    ball.press("n")
    assert ball.viewer.ask("clicks") == []
    ball.click_ball(dx=130)
    assert len(ball.viewer.ask("tumours")) == 2
    ball.page.locator(".tumour").first.click()
    ball.viewer.wait_for("clicks", lambda clicks: len(clicks) == 1)
    assert (ball.viewer.mask() == finished).all()


def test_the_downloaded_file_holds_the_scenes_mask_in_every_format(ball: User, tmp_path: Path) -> None:
    ball.click_ball()
    for suffix in (".seg.nrrd", ".nrrd", ".nii.gz"):
        ball.page.locator(".suffix").click()
        ball.page.get_by_role("option", name=suffix, exact=True).click()
        with ball.page.expect_download() as download:
            ball.page.get_by_role("button", name="Export").click()
        assert download.value.suggested_filename == "ball" + suffix
        path = tmp_path / ("ball" + suffix)
        download.value.save_as(path)
        voxels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        assert ((voxels > 0) == ball.viewer.mask()).all()


def test_a_reload_keeps_clicks_mask_and_figures(ball: User) -> None:
    ball.click_ball()
    mask, figures = ball.viewer.mask(), ball.page.locator(".figures")
    sync_api.expect(figures).to_contain_text(" ml", timeout=MILLISECONDS)
    before = figures.inner_text()
    ball.page.reload()
    ball.wait_for_page()
    sync_api.expect(figures).to_have_text(before, timeout=MILLISECONDS)
    assert (ball.viewer.mask() == mask).all()
    ball.click_ball(dx=20)
    assert len(ball.viewer.ask("clicks")) == 2


def test_two_quick_clicks_both_count(ball: User) -> None:
    x, y = ball.pixel_of_ball(AXIAL)
    ball.page.mouse.click(x, y)
    ball.page.keyboard.press("e")
    ball.page.mouse.click(x + 25, y)
    ball.viewer.wait_for("clicks", lambda clicks: len(clicks) == 2)
    ball.settle()
    quick = ball.viewer.mask()
    ball.press("Control+z")
    ball.press("Control+y")
    assert (ball.viewer.mask() == quick).all()


def test_an_engine_that_dies_between_clicks_costs_nothing(ball: User) -> None:
    ball.click_ball()
    ball.viewer.ask("kill_engine")
    ball.press("e")
    ball.click_ball(dx=25)
    message, failed, *_ = ball.viewer.ask("status")
    assert (message, failed) == ("", False)
    assert ball.viewer.mask().any()


def test_a_click_is_dragged_and_deleted(ball: User) -> None:
    x, y = ball.pixel_of_ball(AXIAL)
    ball.click(x, y)
    ((placed, _),) = ball.viewer.ask("clicks")
    ball.press("Escape")
    ball.page.mouse.move(x, y)
    ball.page.wait_for_timeout(300)
    ball.page.mouse.down()
    ball.page.mouse.move(x + 20, y, steps=4)
    ball.page.mouse.up()
    ((dragged, _),) = ball.viewer.wait_for("clicks", lambda clicks: clicks[0][0] != placed)
    assert 1.0 < np.linalg.norm(np.subtract(dragged, placed)) < 8.0
    ball.page.mouse.move(x + 60, y + 60)
    ball.page.mouse.move(x + 20, y)
    ball.page.wait_for_timeout(300)
    ball.page.keyboard.press("Delete")
    ball.viewer.wait_for("clicks", lambda clicks: not clicks)
    assert not ball.viewer.mask().any()


def test_a_slow_evaluation_shows_its_progress_and_is_cancelled(ball: User) -> None:
    ball.viewer.ask("use_slow_engine", 20.0)
    try:
        x, y = ball.pixel_of_ball(AXIAL)
        ball.page.mouse.click(x, y)
        cancel = ball.page.get_by_role("button", name="Cancel (Esc)")
        cancel.wait_for()
        before = ball.viewer.ask("slice_offsets")
        ball.page.mouse.wheel(0, -200)
        ball.viewer.wait_for("slice_offsets", lambda now: now != before)
        cancel.click()
        assert ball.message().startswith("Cancelled")
        assert len(ball.viewer.ask("clicks")) == 1
    finally:
        ball.viewer.ask("use_compact_engine")


def test_a_scan_that_cannot_be_opened_is_told_of_in_the_snackbar(ball: User) -> None:
    before = ball.viewer.ask("volume")
    field = ball.page.get_by_label("Path of a scan, or of a DICOM folder")
    field.fill("/no/such/scan.nii.gz")
    field.press("Enter")
    sync_api.expect(ball.page.locator(".v-snackbar__content")).to_contain_text(
        "no file or folder", timeout=MILLISECONDS
    )
    assert ball.viewer.ask("volume") == before


def test_the_page_stays_usable_after_an_upload_that_was_cut_off(ball: User, scan: BallScan) -> None:
    ball.page.route("**/upload", lambda route: route.abort())
    ball.page.locator("input[type=file]").first.set_input_files(scan.path)
    sync_api.expect(ball.page.locator(".v-snackbar__content")).to_contain_text("upload failed", timeout=MILLISECONDS)
    sync_api.expect(ball.page.get_by_role("button", name="Phantom")).to_be_enabled(timeout=MILLISECONDS)
    ball.page.unroute("**/upload")


def test_an_upload_is_opened_and_not_kept(ball: User, scan: BallScan, tmp_path: Path) -> None:
    upload = shutil.copy(scan.path, tmp_path / "uploaded.nii.gz")
    before = ball.viewer.ask("volume")
    ball.page.locator("input[type=file]").first.set_input_files(upload)
    ball.viewer.wait_for("volume", lambda now: now != before)
    ball.viewer.wait_for_folder_without("uploaded")


def test_an_upload_beyond_the_limit_is_refused(ball: User, tmp_path: Path) -> None:
    large = tmp_path / "large.nii"
    large.write_bytes(os.urandom(1_200_000))
    before = ball.viewer.ask("volume")
    ball.page.locator("input[type=file]").first.set_input_files(large)
    sync_api.expect(ball.page.locator(".v-snackbar__content")).to_contain_text("larger than 1 MB", timeout=MILLISECONDS)
    assert ball.viewer.ask("volume") == before
    ball.viewer.wait_for_folder_without("large")


def test_a_port_that_is_taken_is_told_of_in_one_sentence(user: User) -> None:
    port = user.viewer.origin.rpartition(":")[2]
    again = [sys.executable, "-m", "SAM3DSegmentLib.cli", "view", "--no-browser", "--port", port]
    ended = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and "choose another --port" in ended.stderr and "Traceback" not in ended.stderr


def test_the_token_leaves_the_address_bar(user: User) -> None:
    assert "token" not in user.page.url


def test_the_viewers_process_loads_no_torch(user: User) -> None:
    assert not user.viewer.ask("loaded", "torch")
    assert re.match(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}$", user.viewer.address)
