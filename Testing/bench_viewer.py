"""Benchmarks of the browser viewer in Chromium, software rendering: python -m Testing.bench_viewer

How long the page takes to be usable, from a click to the mask drawn in the browser, and how fast slices scroll.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from SAM3DSegmentLib.phantom import make_phantom
from Testing.viewer_process import ViewerProcess
from Testing.viewer_user import AXIAL, User, at_the_page

REPEATS = 5
VIEW = 600, 400
"""Pixels of each view."""

PAGE = 350 + 2 * VIEW[0], 2 * VIEW[1]
SCROLL_SECONDS = 4.0
STREAM, AXIAL_AREA = b"trame.rca.topic.stream", b"Red"


def usable_seconds(viewer: ViewerProcess) -> float:
    """From asking for the address to a drawn scan and a panel that takes clicks; the browser itself is running."""
    with at_the_page(viewer, *PAGE) as user:
        times = []
        for _ in range(REPEATS):
            user.page.goto("about:blank")
            start = time.perf_counter()
            user.arrive()
            while user.picture(AXIAL).max() < 100:
                pass
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def mask_seconds(user: User, clicks: list[tuple[float, float, float]]) -> list[float]:
    """From each click, into an empty tumour, to its colour in the browser's picture."""
    seconds = []
    for ras in clicks:
        user.press("n")
        x, y = user.place_of(AXIAL, ras)
        user.page.mouse.move(x, y)
        user.page.wait_for_timeout(1500)
        clip = {"x": x + 9, "y": y - 6, "width": 4, "height": 12}
        before = user.pixels(clip)
        start = time.perf_counter()
        user.page.mouse.down()
        user.page.mouse.up()
        while np.ptp(user.pixels(clip) - before, axis=-1).mean() < 25:
            pass
        seconds.append(time.perf_counter() - start)
        user.viewer.wait_for("settled")
    return seconds


def frames_per_second(user: User) -> float:
    """Of the axial view in the browser while its wheel turns without a pause."""
    arrived: list[float] = []

    def listen(socket: object) -> None:
        socket.on("framereceived", count)  # type: ignore[attr-defined]

    def count(frame: bytes | str) -> None:
        if isinstance(frame, bytes) and STREAM in frame and AXIAL_AREA in frame:
            arrived.append(time.perf_counter())

    user.page.on("websocket", listen)
    user.arrive()
    user.page.wait_for_timeout(2000)
    box = user.box(AXIAL)
    user.page.mouse.move(box["x"] + VIEW[0] / 2, box["y"] + VIEW[1] / 2)
    user.page.wait_for_timeout(1000)
    arrived.clear()
    start = time.perf_counter()
    for turn in range(1000):
        if time.perf_counter() - start > SCROLL_SECONDS:
            break
        user.page.mouse.wheel(0, 100 if turn % 40 < 20 else -100)
        user.page.wait_for_timeout(15)
    return len(arrived) / (time.perf_counter() - start)


def viewer() -> None:
    process = ViewerProcess("--device", "cpu")
    try:
        process.wait_for("volume")
        print(f"first page        usable after {usable_seconds(process):.1f} s")
        with at_the_page(process, *PAGE) as user:
            lesions = make_phantom().lesions
            seconds = mask_seconds(user, [lesions[n].click for n in (0, 2, 3)])
            print(f"click             mask drawn after {statistics.median(seconds):.2f} s (median of {len(seconds)})")
            print(f"slice scrolling   {frames_per_second(user):.0f} frames a second at {VIEW[0]} x {VIEW[1]}")
    finally:
        process.close()


if __name__ == "__main__":
    viewer()
