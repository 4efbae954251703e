"""A picture of a segmented object: the three planes through a click, with outlines and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.geometry import BoolArray, Box, Crop, Float32Array, Point, Volume

PIXELS = 384
"""Edge of one plane."""

SMALLEST_FIELD_MM = 80.0
CONTEXT = 1.8
"""Edge of the field of view, as a multiple of the object's longest side."""

WINDOW_PERCENTILES = (10.0, 99.0)
WINDOW_MARGIN = 0.3
"""Of the range between the percentiles, added at both ends."""

CLICK_REACH_MM = 4.0
"""Clicks that are no further from a plane are drawn on it."""

SCALE_BARS_MM = (10, 20, 50, 100, 200)
SCALE_BAR_SHARE = 0.35

MASK_COLOUR, REFERENCE_COLOUR = "#ffb000", "#40c8ff"
INCLUDE_COLOUR, EXCLUDE_COLOUR = "#30e060", "#ff4040"

OUTLINED = [withStroke(linewidth=3.5, foreground="black")]


@dataclass(frozen=True)
class Plane:
    """One of the three planes, as a radiologist looks at it.

    Attributes:
        title: its name.
        normal: the crop axis (0 = D, 1 = H, 2 = W) that it cuts; the others run up and to the left.
        sides: the patient's side at the top, the bottom, the left and the right.
    """

    title: str
    normal: int
    sides: str


PLANES = (Plane("axial", 0, "APRL"), Plane("coronal", 1, "SIRL"), Plane("sagittal", 2, "SIAP"))


def draw_segmentation(
    volume: Volume,
    box: Box,
    mask: BoolArray,
    clicks: Sequence[Click],
    path: Path,
    reference: BoolArray | None = None,
) -> None:
    """Write a PNG of the three planes through the last include click, zoomed to the object.

    Args:
        box, mask: native voxels (K, J, I) around the object and the mask [k, j, i] within them; both may be empty.
        clicks: at least one of them an include click.
        reference: [K, J, I], the true object, drawn dashed.

    Raises:
        ExportError: `path` cannot be written.
    """
    focus = [click.ras for click in clicks if click.include][-1]
    whole_mask = np.zeros(volume.voxels.shape, bool)
    whole_mask[box] = mask
    outlines = [(whole_mask, MASK_COLOUR, "solid")]
    if reference is not None:
        outlines.append((reference, REFERENCE_COLOUR, "dashed"))
    crop, spacing = field_of_view(volume, box, focus)
    cuts = [plane_through(crop, volume.continuous_index(focus), plane.normal) for plane in PLANES]
    pictures = [cut.cut(volume.voxels) for cut in cuts]
    low, high = window(pictures)

    figure = Figure(figsize=(12.6, 4.4), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    for axes, plane, cut, (voxels, inside) in zip(figure.subplots(1, 3), PLANES, cuts, pictures, strict=True):
        shown = np.where(inside, voxels, low).squeeze(plane.normal)
        axes.imshow(shown, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bilinear")
        for outlined, colour, style in outlines:
            part = (cut.cut(outlined)[0] * inside).squeeze(plane.normal)
            if part.min() < 0.5 <= part.max():
                axes.contour(part, [0.5], colors=colour, linestyles=style, linewidths=1.3)
        for click in clicks:
            draw_click(axes, click, plane, cut.position(volume.continuous_index(click.ras)), spacing)
        decorate(axes, plane, spacing)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.93, 0.01)
    save(figure, path)


def field_of_view(volume: Volume, box: Box, focus: Point) -> tuple[Crop, float]:
    """The cube of `PIXELS` voxels around the object (around `focus` where there is none) and its voxel size in mm."""
    longest = max((b.stop - b.start) * size for b, size in zip(box, volume.spacing, strict=True))
    spacing = max(SMALLEST_FIELD_MM, CONTEXT * longest) / PIXELS
    centre = volume.ras(middle_of(box)) if longest else focus
    return volume.crop_around(centre, spacing, (PIXELS, PIXELS, PIXELS)), spacing


def middle_of(box: Box) -> Point:
    k, j, i = ((b.start + b.stop - 1) / 2 for b in box)
    return k, j, i


def plane_through(crop: Crop, index: Point, normal: int) -> Crop:
    """The crop's plane across the axis `normal` that is nearest to the native index (k, j, i); one voxel thick."""
    offset, shape = [0, 0, 0], list(crop.shape)
    offset[normal], shape[normal] = round(crop.position(index)[normal]), 1
    return crop.part((offset[0], offset[1], offset[2]), (shape[0], shape[1], shape[2]))


def window(pictures: Sequence[tuple[Float32Array, BoolArray]]) -> tuple[float, float]:
    """The values shown as black and as white: from percentiles of the middle of the planes, where the object lies."""
    quarter = slice(PIXELS // 4, -PIXELS // 4)
    near = [(voxels.squeeze()[quarter, quarter], inside.squeeze()[quarter, quarter]) for voxels, inside in pictures]
    low, high = np.percentile(np.concatenate([voxels[inside] for voxels, inside in near]), WINDOW_PERCENTILES)
    margin = WINDOW_MARGIN * (high - low)
    return float(low - margin), float(high + margin)


def draw_click(axes: Axes, click: Click, plane: Plane, position: Point, spacing: float) -> None:
    """Mark a click at `position` in voxels of the plane's crop, if it lies within reach of the plane."""
    if abs(position[plane.normal]) * spacing > CLICK_REACH_MM:
        return
    up, left = (p for axis, p in enumerate(position) if axis != plane.normal)
    colour = INCLUDE_COLOUR if click.include else EXCLUDE_COLOUR
    axes.plot(left, up, marker="P" if click.include else "X", color=colour, markeredgecolor="black", markersize=9)


def decorate(axes: Axes, plane: Plane, spacing: float) -> None:
    """Name the plane and the patient's sides, draw the scale bar, and turn the patient's right or front to the left."""
    axes.set_title(plane.title, color="white", fontsize=11)
    axes.set(xlim=(PIXELS - 0.5, -0.5), ylim=(-0.5, PIXELS - 0.5))
    axes.set_axis_off()
    for side, (x, y) in zip(plane.sides, ((0.5, 0.96), (0.5, 0.04), (0.04, 0.5), (0.96, 0.5)), strict=True):
        axes.text(
            x,
            y,
            side,
            transform=axes.transAxes,
            color="white",
            ha="center",
            va="center",
            fontsize=12,
            path_effects=OUTLINED,
        )
    longest = max(
        length for length in SCALE_BARS_MM if length == SCALE_BARS_MM[0] or length < SCALE_BAR_SHARE * PIXELS * spacing
    )
    start, height = 0.95 * PIXELS, 0.07 * PIXELS
    axes.plot([start, start - longest / spacing], [height, height], color="white", linewidth=2.5, path_effects=OUTLINED)
    axes.text(start, 1.3 * height, f"{longest} mm", color="white", fontsize=9, path_effects=OUTLINED)


def save(figure: Figure, path: Path) -> None:
    """Write the PNG beside its target, then rename: a full disk leaves no partial file."""
    partial = path.with_name(f"{path.name}.part")
    try:
        figure.savefig(partial, format="png", facecolor="black")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise ExportError(f"The picture {path} cannot be written ({error.strerror}): choose another place.") from error
