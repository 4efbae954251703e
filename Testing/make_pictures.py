"""The viewer's pictures for the README: python -m Testing.make_pictures

Clicks through the phantom in Chromium, and writes docs/viewer.png and the animation docs/viewer.gif. With a scan of
yours, and points in it in RAS mm, the pictures go to a folder that is not part of the project:

    python -m Testing.make_pictures --scan scan.nii.gz --click=-55.7,-135.8,-949 --out demo
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

from SAM3DSegmentLib.phantom import make_phantom
from Testing.viewer.process import ROOT, ViewerProcess
from Testing.viewer.user import AXIAL, User, at_the_page

FRAME = 880, 550
COLORS = 192
ARROW = ((0, 0), (0, 17), (4, 13), (8, 20), (11, 18), (7, 11), (12, 11))


class Film:
    """Frames of the page, with the mouse drawn in, and how long each is shown."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._frames: list[Image.Image] = []
        self._milliseconds: list[int] = []
        self.mouse = (700.0, 500.0)

    def move_to(self, ras: tuple[float, float, float]) -> None:
        """Turn the slices to a point and the mouse to where it lies in the axial one."""
        self.mouse = self._user.place_of(AXIAL, ras)
        self._user.page.mouse.move(*self.mouse)
        self._user.page.wait_for_timeout(2000)

    def click(self) -> None:
        self._user.click(*self.mouse)
        self._user.page.wait_for_timeout(3000)

    def take(self, milliseconds: int) -> Image.Image:
        """One frame; the picture itself comes back whole, without the mouse."""
        whole = Image.open(BytesIO(self._user.page.screenshot())).convert("RGB")
        frame = whole.copy()
        x, y = self.mouse
        ImageDraw.Draw(frame).polygon([(x + dx, y + dy) for dx, dy in ARROW], fill="white", outline="black")
        self._frames.append(frame.resize(FRAME, Image.Resampling.LANCZOS))
        self._milliseconds.append(milliseconds)
        return whole

    def write(self, path: Path) -> None:
        sheet = Image.new("RGB", (FRAME[0], FRAME[1] * len(self._frames)))
        for number, frame in enumerate(self._frames):
            sheet.paste(frame, (0, FRAME[1] * number))
        # Greys of their own: shared with rare colours, they would take a tint.
        greys = [level for grey in range(0, 256, 4) for level in (grey, grey, grey)]
        colors = sheet.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
        palette = Image.new("P", (1, 1))
        palette.putpalette(greys + colors)
        first, *rest = [frame.quantize(COLORS, palette=palette, dither=Image.Dither.NONE) for frame in self._frames]
        first.save(path, save_all=True, append_images=rest, duration=self._milliseconds, loop=0, optimize=True)


def make_pictures(user: User, points: list[tuple[float, float, float]], out: Path) -> None:
    """One tumour to a point, then an export."""
    film = Film(user)
    film.move_to(points[0])
    film.take(1200)
    for number, point in enumerate(points):
        if number:
            user.press("n")
            film.move_to(point)
            film.take(900)
        film.click()
        picture = film.take(1800)
    picture.save(out / "viewer.png", optimize=True)
    user.page.get_by_role("button", name="Export").click()
    film.mouse = (60.0, 600.0)
    user.page.wait_for_timeout(1500)
    film.take(2500)
    film.write(out / "viewer.gif")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", help="instead of the phantom")
    parser.add_argument("--click", action="append", default=[], metavar="R,A,S", help="a point in a tumour; repeats")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    if options.scan:
        points = [tuple(float(number) for number in text.split(",")) for text in options.click]
    else:
        points = [make_phantom().lesions[n].click for n in (0, 2, 3)]
    viewer = ViewerProcess(*([options.scan] if options.scan else []))
    try:
        viewer.wait_for("volume")
        with at_the_page(viewer) as user:
            user.page.wait_for_timeout(2000)
            make_pictures(user, points, options.out)
    finally:
        viewer.close()


if __name__ == "__main__":
    main()
