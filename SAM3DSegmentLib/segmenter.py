"""The segmenter: the mask as a function of the volume, the ordered clicks and the model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.crop_answers import CropAnswers, Decoder, Request
from SAM3DSegmentLib.errors import ClickTooFarError, NoIncludeClickError
from SAM3DSegmentLib.field import Field, one_tile
from SAM3DSegmentLib.first_look import contrast, first_look, second_look
from SAM3DSegmentLib.geometry import Float32Array, Index, Point, Volume, trim
from SAM3DSegmentLib.known_answers import KnownAnswers
from SAM3DSegmentLib.morphology import deepest, foothold
from SAM3DSegmentLib.prediction import Prediction, with_voxel
from SAM3DSegmentLib.start import Start, field_of_mask

SETTLED_CLICKS = 5
"""After more clicks than these an answer counts as settled."""

SETTLED_AGREEMENT = 0.8
"""The Dice with a settled answer that a coarser zoom level needs to take its place."""

SMALL_SHARE = 0.25
"""An object whose longest side takes less than this share of the crop is looked at again one zoom level finer."""

ROOM_SHARE = 0.8
"""Clicks and mask must fit into this share of a crop's edge when it is laid around them."""

SECOND_LOOKS = 4
"""Up to so many clicks a finer zoom level's object may take the place of the one that was found first."""

TILE_LIMIT = 27
"""Crops that one object may take; beyond it the mask ends where the last crop does, and says so."""

CANVAS_LIMIT = 320**3
"""Voxels of the box around all crops of one object: 27 crops of 128 voxels fill a cube of that many."""


class Segmenter:
    """Evaluates lists of clicks on one volume with one network.

    A click asks for a change where the mask is wrong. One where it is right already changes nothing; later answers keep
    it like any other.

    Every list is evaluated click by click, so that the answer to a list is the same whether its clicks came one after
    another, by undo and redo, or from a file. Answers to the beginnings of lists are cached.
    """

    def __init__(self, volume: Volume, decoder: Decoder) -> None:
        volume.validate_intensities()
        self.volume = volume
        self._crops = CropAnswers(volume, decoder)
        self._known = KnownAnswers()
        self._looks: dict[int, Field] = {}
        self._looked_at: tuple[Click, ...] = ()

    def segment(
        self,
        clicks: Sequence[Click],
        cancelled: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
        start: Start | None = None,
    ) -> Prediction:
        """The mask for an ordered list of clicks; it holds at each include click and at no exclude click.

        Where an include and an exclude click share a voxel, the later one counts.

        Args:
            clicks: at least one include click.
            cancelled: calls the evaluation off once it is set.
            progress: is told the finished part of the present network call, 0 to 1.
            start: a mask to go on from, the answer to the clicks that the list begins with: to the voxel, also where it
                breaks their promises.

        Raises:
            NoIncludeClickError: the list holds no include click.
            ClickOutsideError: a click lies outside the volume.
            ClickTooFarError: an include click lies too far from the others.
            CancelledError: `cancelled` was set meanwhile.
            UserError: the engine's.
        """
        if not any(click.include for click in clicks):
            raise NoIncludeClickError("There is no include click: click inside the tumour first.")
        for click in clicks:
            self.volume.index(click.ras)
        answered, field = self._known.beginning(clicks, start)
        if start and field is None:
            answered, field = len(start.clicks), field_of_mask(self.volume, self._crops.levels, self._crops.size, start)
            self._known.keep(start.clicks, start, field)
        for count in range(answered + 1, len(clicks) + 1):
            beginning = tuple(clicks[:count])
            if any(click.include for click in beginning):
                if field and self._is_right(field, beginning):
                    field = field.unchanged()
                else:
                    field = self._next_field(field, beginning, start, Request(cancelled, progress))
                self._known.keep(beginning, start, field)
        assert field is not None
        return self._prediction(field, clicks)

    def _is_right(self, field: Field, clicks: Sequence[Click]) -> bool:
        """Whether the answer to all clicks but the newest is right at that one too; then it stays as it is.

        Evaluated all the same, an include click within the mask lost 1 to 3 points of Dice on the validation scans.
        What was painted may break earlier promises: the next answer keeps them.
        """
        promises = {self.volume.index(click.ras): click.include for click in clicks[:-1]}
        newest, include = self.volume.index(clicks[-1].ras), clicks[-1].include
        if field.painted:
            return all(field.shows(index) is said for index, said in {**promises, newest: include}.items())
        return promises.get(newest, field.shows(newest)) is include

    def _prediction(self, field: Field, clicks: Sequence[Click]) -> Prediction:
        box, mask = field.painted or field.canvas.paste_positive(field.logits, self.volume.voxels.shape)
        for click in () if field.painted else clicks:
            box, mask = with_voxel(box, mask, self.volume.index(click.ras), click.include)
        spacing = self._crops.levels[field.level]
        return Prediction(*trim(box, mask), spacing, len(field.tiles), field.limited, field.needless)

    def _next_field(
        self, before: Field | None, clicks: tuple[Click, ...], start: Start | None, request: Request
    ) -> Field:
        """The answer to the clicks, given the answer to all but the last."""
        if before is None:
            found = first_look(
                self._first_looks(clicks, request),
                lambda field: contrast(self._crops.voxels(field.base), field.logits > 0),
                self._crops.levels,
                self.volume,
            )
            return self._grow(found, clicks, request)
        newest = self.volume.continuous_index(clicks[-1].ras)
        if len(clicks) <= SECOND_LOOKS and not start:
            looks = self._first_looks(clicks, request)
            before = second_look(before, looks, self.volume.voxels.shape, self._crops.native(clicks))
        holding = before.tiles_holding(newest)
        if holding:
            field = self._redecode(before, holding, clicks, request)
        elif not clicks[-1].include:
            return before.settled(self._crops.native(clicks))
        else:
            field = self._reach(before, newest, clicks, request)
        return self._grow(self._zoom(field, clicks, request), clicks, request)

    def _look(
        self, level: int, centre: Point, before: Field | None, clicks: tuple[Click, ...], request: Request
    ) -> Field:
        """One crop of a zoom level around a native index."""
        crop = self._crops.around(level, centre)
        previous = before.logits_on(crop) if before else None
        logits = self._crops.answer(crop, self._crops.placed(crop, clicks), previous, request)
        return one_tile(level, crop, logits).settled(self._crops.native(clicks))

    def _first_looks(self, clicks: tuple[Click, ...], request: Request) -> Callable[[int], Field]:
        """What each zoom level shows of the first include click, and of the exclude clicks before it."""
        count = next(n for n, click in enumerate(clicks, 1) if click.include)
        beginning = clicks[:count]
        centre = self.volume.continuous_index(beginning[-1].ras)

        if beginning != self._looked_at:
            self._looks, self._looked_at = {}, beginning

        def look(level: int) -> Field:
            if level not in self._looks:
                self._looks[level] = self._look(level, centre, None, beginning, request)
            return self._looks[level]

        return look

    def _redecode(self, before: Field, holding: Sequence[Index], clicks: tuple[Click, ...], request: Request) -> Field:
        """The same crops, those that hold the newest click evaluated again.

        The previous answer goes in as the network gave it, so that the engine still has it and only clicks travel.
        Where no include click lies in a crop, the part of the mask in it that is nearest to one names the object.
        """
        changed = {}
        for offset in holding:
            crop = before.tile_crop(offset)
            placed = self._crops.placed(crop, clicks)
            if not any(include for _, include in placed):
                includes = [crop.position(index) for index, include in self._crops.native(clicks) if include]
                found = before.logits_on(crop) > 0
                if not found.any():
                    continue
                placed = [(foothold(found, includes), True), *placed]
            changed[offset] = self._crops.answer(crop, placed, before.tiles[offset].astype(np.float32), request)
        return before.with_tiles(changed).settled(self._crops.native(clicks))

    def _reach(self, before: Field, newest: Point, clicks: tuple[Click, ...], request: Request) -> Field:
        """A click outside every crop: the zoom level that holds mask and clicks, or another crop beside the others."""
        low, high = self._extent(before, clicks)
        for level in range(before.level, len(self._crops.levels)):
            if self._fits(low, high, level):
                return self._look(level, tuple((low + high) / 2), before, clicks, request)
        offset = before.offset_near(newest)
        crop = before.tile_crop(offset)
        placed = self._crops.placed(crop, clicks)
        if len(before.tiles) >= TILE_LIMIT or not any(include for _, include in placed):
            return before.settled(self._crops.native(clicks))
        if before.voxels_with([offset]) > CANVAS_LIMIT:
            raise ClickTooFarError(
                "The newest click lies too far from the rest of this tumour: take it back and begin another tumour for "
                "it (Next tumour)."
            )
        return before.with_tiles({offset: self._crops.answer(crop, placed, before.logits_on(crop), request)}).settled(
            self._crops.native(clicks)
        )

    def _zoom(self, field: Field, clicks: tuple[Click, ...], request: Request) -> Field:
        """Coarser while the mask meets the crop's border, finer while it is small; never both.

        A coarser level that would lose what many clicks have settled is left: the mask grows by further crops.
        """
        zoomed_out = False
        while len(field.tiles) == 1:
            low, high = self._extent(field, clicks)
            if field.reached_offsets(self.volume.voxels.shape):
                level, zoomed_out = field.level + 1, True
            elif not zoomed_out and field.longest_side() < SMALL_SHARE * self._crops.size:
                level = field.level - 1
            else:
                break
            finer_does_not_fit = level < field.level and not self._fits(low, high, level)
            if not 0 <= level < len(self._crops.levels) or finer_does_not_fit:
                break
            centre = tuple((low + high) / 2)
            if not any(include for _, include in self._crops.placed(self._crops.around(level, centre), clicks)):
                break  # far clicks pull the crop away from the object
            looked = self._look(level, centre, field, clicks, request)
            if zoomed_out and len(clicks) > SETTLED_CLICKS and field.agreement(looked) < SETTLED_AGREEMENT:
                break
            field = looked
        return field

    def _grow(self, field: Field, clicks: tuple[Click, ...], request: Request) -> Field:
        """Further crops wherever the mask meets the border of the crops so far, one layer after another."""
        while True:
            layer = sorted(field.reached_offsets(self.volume.voxels.shape))
            if not layer:
                return field
            room = TILE_LIMIT - len(field.tiles)
            if room <= 0 or field.voxels_with(layer[:room]) > CANVAS_LIMIT:
                return field.with_limit()
            answers = {offset: self._beyond(field, offset, clicks, request) for offset in layer[:room]}
            field = field.with_tiles(answers).settled(self._crops.native(clicks))

    def _beyond(self, field: Field, offset: Index, clicks: tuple[Click, ...], request: Request) -> Float32Array:
        """The answer of a further crop: where no include click lies in it, the mask's own overlap names the object."""
        crop = field.tile_crop(offset)
        placed = self._crops.placed(crop, clicks)
        previous = field.logits_on(crop)
        if not any(include for _, include in placed):
            d, h, w = deepest(previous > 0)
            placed = [*placed, ((float(d), float(h), float(w)), True)]
        return self._crops.answer(crop, placed, previous, request)

    def _extent(self, field: Field, clicks: tuple[Click, ...]) -> tuple[Float32Array, Float32Array]:
        """Lowest and highest native index (k, j, i) of mask and clicks."""
        corners = [np.asarray(self.volume.continuous_index(click.ras)) for click in clicks]
        positive = np.argwhere(field.logits > 0)
        if len(positive):
            corners += [np.asarray(field.canvas.native_index(tuple(c))) for c in (positive.min(0), positive.max(0))]
        return np.min(corners, 0), np.max(corners, 0)

    def _fits(self, low: Float32Array, high: Float32Array, level: int) -> bool:
        millimetres = (high - low) * np.asarray(self.volume.spacing)
        return bool(millimetres.max() <= ROOM_SHARE * self._crops.size * self._crops.levels[level])
