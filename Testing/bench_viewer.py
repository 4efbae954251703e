"""Benchmarks of the browser viewer in Chromium, software rendering: python -m Testing.bench_viewer

How long the page takes to be usable, from a click to the mask drawn in the browser, and how fast slices scroll.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from SAM3DSegmentLib.phantom import make_phantom
from Testing.viewer.process import ViewerProcess
from Testing.viewer.user import AXIAL, User, at_the_page

REPEATS = 5
VIEW = 600, 400
"""Pixels of each view."""

PAGE = 350 + 2 * VIEW[0], 2 * VIEW[1]
SCROLL_SECONDS = 4.0
PATIENCE_SECONDS = 60.0
"""After which something that does not appear ends the benchmark."""

AROUND = 24
"""Pixels beside the click, to all sides, in which the mask is looked for."""

COLOURED, GREEN = 25, 1
"""How far apart a coloured pixel's channels are, at least; the click's own is the greatest in an include click."""

MASK_PIXELS = 40
LOOK_SECONDS = 0.03
"""Between two looks at the page: taking its picture costs the processors that draw it."""
STREAM, AXIAL_AREA = b"trame.rca.topic.stream", b"Red"


def wait_until(seen: Callable[[], bool], what: str) -> None:
    """
    Raises:
        TimeoutError: it was not seen in `PATIENCE_SECONDS`.
    """
    end = time.perf_counter() + PATIENCE_SECONDS
    while not seen():
        time.sleep(LOOK_SECONDS)
        if time.perf_counter() > end:
            raise TimeoutError(f"{what} did not appear within {PATIENCE_SECONDS:.0f} s")


def usable_seconds(viewer: ViewerProcess) -> float:
    """From asking for the address to a drawn scan and a panel that takes clicks; the browser itself is running."""
    with at_the_page(viewer, *PAGE) as user:
        times = []
        for _ in range(REPEATS):
            user.page.goto("about:blank")
            start = time.perf_counter()
            user.arrive()
            wait_until(lambda: user.picture(AXIAL).max() >= 100, "the scan")
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
        clip = {"x": x - AROUND, "y": y - AROUND, "width": 2 * AROUND, "height": 2 * AROUND}
        assert mask_pixels(user.pixels(clip)) < MASK_PIXELS, "the place of the click is coloured already"
        start = time.perf_counter()
        user.page.mouse.down()
        user.page.mouse.up()
        wait_until(lambda clip=clip: mask_pixels(user.pixels(clip)) >= MASK_PIXELS, "the mask")  # type: ignore[misc]
        seconds.append(time.perf_counter() - start)
        user.viewer.wait_for("settled")
    return seconds


def mask_pixels(picture: np.ndarray) -> int:
    """How many pixels of [y, x, 3] have a tumour's colour: the scan is grey, the click's own glyph green."""
    return int(((np.ptp(picture, axis=-1) > COLOURED) & (picture.argmax(-1) != GREEN)).sum())


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
        print(f"first page        usable after {usable_seconds(process):.1f} s", flush=True)
        with at_the_page(process, *PAGE) as user:
            lesions = make_phantom().lesions
            seconds = mask_seconds(user, [lesions[n].click for n in (0, 2, 3)])
            median = statistics.median(seconds)
            print(f"click             mask drawn after {median:.2f} s (median of {len(seconds)})", flush=True)
            print(f"slice scrolling   {frames_per_second(user):.0f} frames a second at {VIEW[0]} x {VIEW[1]}")
    finally:
        process.close()


if __name__ == "__main__":
    viewer()
