"""Someone at the viewer's page: Chromium under Playwright, and where in the page the views are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from Testing.viewer.process import ViewerProcess

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

AXIAL, THREE_D, CORONAL, SAGITTAL = range(4)
"""The views in the order of the page."""

MILLISECONDS = 60_000
NEAR_MIDDLE = 8
"""Pixels: where the ball is not, before the slices are turned to it."""


class User:
    """Someone at the page."""

    def __init__(self, page: Any, viewer: ViewerProcess) -> None:
        self.page = page
        self.viewer = viewer

    def arrive(self) -> None:
        self.page.goto(self.viewer.address)
        self.wait_for_page()
        self.viewer.wait_for("volume")

    def wait_for_page(self) -> None:
        self.page.get_by_text("Include (I)").wait_for(timeout=MILLISECONDS)

    def open(self, path: Path) -> None:
        """Open a scan by its path, and wait for it."""
        before = self.viewer.ask("volume")
        field = self.page.get_by_label("Path of a scan, or of a DICOM folder")
        field.fill(str(path))
        field.press("Enter")
        self.viewer.wait_for("volume", lambda now: now != before)
        field.blur()

    def pixels(self, clip: dict[str, float]) -> np.ndarray:
        """[y, x, 3] of a part of the page as the browser shows it, as signed numbers."""
        return np.array(Image.open(BytesIO(self.page.screenshot(clip=clip))).convert("RGB")).astype(np.int16)

    def picture(self, view: int) -> np.ndarray:
        """Grey values [y, x] of a view, black where the view's own controls are."""
        grey = self.pixels(self.box(view)).mean(-1)
        grey[:, :60] = 0
        grey[-60:] = 0
        return grey

    def box(self, view: int) -> dict[str, float]:
        return self.page.locator(".layout-grid-item").nth(view).bounding_box()

    def place_of(self, view: int, ras: Sequence[float]) -> tuple[float, float]:
        """Turn the slices to a point; where on the page it lies then."""
        x, y = self.viewer.ask("scroll_to", list(ras))[(AXIAL, CORONAL, SAGITTAL).index(view)]
        box = self.box(view)
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def pixel_of_ball(self, view: int) -> tuple[float, float]:
        """Where on the page the bright ball is seen, once the slices that were turned to it are drawn there."""
        box = self.box(view)
        end = time.monotonic() + MILLISECONDS / 1000
        while time.monotonic() < end:
            bright = np.argwhere(self.picture(view) > 150)
            if len(bright) > 1000:
                y, x = bright.mean(0)
                if max(abs(x - box["width"] / 2), abs(y - box["height"] / 2)) < NEAR_MIDDLE:
                    return box["x"] + x, box["y"] + y
            self.page.wait_for_timeout(50)
        raise AssertionError("the ball does not appear in the middle")

    def click(self, x: float, y: float) -> None:
        """Into a view; the mask is waited for."""
        before = len(self.viewer.ask("clicks"))
        self.page.mouse.click(x, y)
        self.viewer.wait_for("clicks", lambda clicks: len(clicks) == before + 1)
        self.settle()

    def click_ball(self, dx: float = 0) -> None:
        x, y = self.pixel_of_ball(AXIAL)
        self.click(x + dx, y)

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(100)
        self.settle()

    def unfold(self, title: str) -> None:
        """Open a section of the panel, if it is not."""
        section = self.page.locator(".v-expansion-panel-title", has_text=title)
        if "--active" not in section.get_attribute("class"):
            section.click()

    def choose(self, label: str, option: str) -> None:
        """An option of a box."""
        self.page.locator(".v-select").filter(has=self.page.get_by_text(label, exact=True)).first.click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def settle(self) -> None:
        """Wait until every click has its mask."""
        self.viewer.wait_for("settled")
        message, failed, *_ = self.viewer.ask("status")
        assert not failed, message

    def message(self) -> str:
        """Of the snackbar, as soon as there is one."""
        bar = self.page.locator(".v-snackbar__content")
        bar.wait_for(timeout=MILLISECONDS)
        return bar.inner_text()


@contextmanager
def at_the_page(viewer: ViewerProcess, width: int = 1280, height: int = 800) -> Iterator[User]:
    """A browser of its own with the viewer's page open in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.set_default_timeout(MILLISECONDS)
        user = User(page, viewer)
        user.arrive()
        yield user
        browser.close()
