"""A field: the logits of one object on one or several overlapping crops of the same zoom level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from SAM3DSegmentLib.geometry import BoolArray, Box, Crop, Float32Array, Index, Point, resampling_matrix
from SAM3DSegmentLib.morphology import connected_to

PROMISED_LOGIT = 1.0
"""What a click puts on the voxels around it where the network says otherwise."""

TOUCHING_SHARE = 0.003
"""The share of a crop's face that the mask must cover to count as reaching beyond it."""

DOUBTFUL_LOGIT = -3.0
"""Above it a voxel counts in the mask's confidence."""

PROBABILITY_LIMIT = 1e-6


@dataclass(frozen=True, eq=False)
class Field:
    """Logits of the object, merged over the tiles.

    Attributes:
        level: of the zoom.
        base: the first crop, of S voxels an edge; tiles lie on its lattice of voxels.
        tiles: offset in crop voxels from `base` (multiples of `stride`) to the network's logits [S, S, S], float16.
        canvas: the box of crop voxels around all tiles.
        logits: [D, H, W] on the canvas: the merged answer, promises kept, only components with an include click.
        limited: True where the object reaches on but no further crop is allowed.
        painted: the mask that it stands for, to the voxel, where that was painted or loaded: native voxels (K, J, I)
            around it, and the mask [k, j, i] within; None for a network's answer.
        needless: True where the newest click found it right already, and changed nothing.
    """

    level: int
    base: Crop
    tiles: Mapping[Index, Float32Array]
    canvas: Crop
    logits: Float32Array
    limited: bool = False
    painted: tuple[Box, BoolArray] | None = None
    needless: bool = False

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self.logits.nbytes + sum(t.nbytes for t in self.tiles.values())

    @cached_property
    def edge(self) -> int:
        """Of a tile, in crop voxels."""
        return self.base.shape[0]

    @property
    def stride(self) -> int:
        """From one tile to the next: neighbours overlap by a quarter."""
        return self.edge * 3 // 4

    def tile_crop(self, offset: Index) -> Crop:
        return self.base.part(offset, self.base.shape)

    def tiles_holding(self, index: Point) -> list[Index]:
        """The tiles that hold a native index."""
        return [offset for offset in self.tiles if (crop := self.tile_crop(offset)).holds(crop.position(index))]

    def holds(self, index: Point) -> bool:
        """Whether a native index lies in the mask."""
        voxel = self.canvas.voxel(index)
        return voxel is not None and bool(self.logits[voxel] > 0)

    def shows(self, index: Index) -> bool:
        """Whether a native voxel (k, j, i) lies in the mask: as painted, or as `Crop.paste_positive` brings it back."""
        if self.painted:
            box, mask = self.painted
            within = all(b.start <= c < b.stop for b, c in zip(box, index, strict=True))
            return within and bool(mask[tuple(c - b.start for c, b in zip(index, box, strict=True))])
        d, h, w = (float(index[axis]) for axis in self.canvas.axes)
        return bool(self.logits_on(Crop(self.canvas.axes, (d, h, w), (1.0, 1.0, 1.0), (1, 1, 1))).item() > 0)

    def offset_near(self, index: Point) -> Index:
        """The offset of the tile, present or not, whose middle is nearest to a native index."""
        d, h, w = (round((c - self.edge / 2) / self.stride) * self.stride for c in self.base.position(index))
        return d, h, w

    def with_tiles(self, changed: Mapping[Index, Float32Array]) -> Field:
        """With tiles added or answered anew; `settled` merges them."""
        return replace(self, tiles={**self.tiles, **{o: t.astype(np.float16) for o, t in changed.items()}})

    def with_limit(self) -> Field:
        return replace(self, limited=True)

    def unchanged(self) -> Field:
        """Once more, as the answer to a click that found it right."""
        return replace(self, needless=True)

    def settled(self, clicks: Sequence[tuple[Point, bool]]) -> Field:
        """Tiles merged, every click's promise kept, components without an include click dropped.

        Args:
            clicks: native index (k, j, i) and whether it includes, in order.
        """
        low, shape = self._around(self.tiles)
        canvas = self.base.part(low, shape)
        logits = self._merged(low, canvas.shape)
        seeds = np.zeros(canvas.shape, bool)
        for index, include in clicks:
            around = cross(np.rint(canvas.position(index)).astype(int), canvas.shape)
            logits[around] = kept(logits[around], include)
        for index, include in clicks:
            if (centre := canvas.voxel(index)) is not None:
                logits[centre] = kept(logits[centre], include)
                seeds[centre] = include
        positive = logits > 0
        logits[positive & ~connected_to(positive, seeds)] *= -1
        return replace(self, canvas=canvas, logits=logits, limited=False, painted=None, needless=False)

    def voxels_with(self, offsets: Iterable[Index]) -> int:
        """Of the box around all tiles, once there are some at these offsets too."""
        _, shape = self._around([*self.tiles, *offsets])
        return prod(shape)

    def _around(self, offsets: Iterable[Index]) -> tuple[Index, Index]:
        """The lowest offset of a box around tiles, and its shape."""
        columns = list(zip(*offsets, strict=True))
        low, high = ([end(column) for column in columns] for end in (min, max))
        d, h, w = (int(last - first) + self.edge for first, last in zip(low, high, strict=True))
        return (low[0], low[1], low[2]), (d, h, w)

    def _merged(self, low: Index, shape: Index) -> Float32Array:
        """Mean probability with weights that fall towards each tile's border, as logits."""
        if len(self.tiles) == 1:
            return next(iter(self.tiles.values())).astype(np.float32)
        ramp = np.minimum(np.arange(self.edge) + 0.5, self.edge - np.arange(self.edge) - 0.5).astype(np.float32)
        weight = ramp[:, None, None] * ramp[:, None] * ramp
        total = np.zeros(shape, np.float32)
        weights = np.zeros(shape, np.float32)
        for offset, logits in self.tiles.items():
            place = tuple(slice(o - b, o - b + self.edge) for o, b in zip(offset, low, strict=True))
            total[place] += weight / (1 + np.exp(-logits.astype(np.float32)))
            weights[place] += weight
        probability = np.clip(total / np.maximum(weights, ramp[0] ** 3), PROBABILITY_LIMIT, 1 - PROBABILITY_LIMIT)
        return np.log(probability / (1 - probability))

    def logits_on(self, crop: Crop) -> Float32Array:
        """The logits resampled to another crop of the same volume, zeros where nothing is known."""
        values: Float32Array = self.logits
        for along in range(3):
            own = (crop.start[along] + crop.step[along] * np.arange(crop.shape[along]) - self.canvas.start[along]) / (
                self.canvas.step[along]
            )
            length = self.canvas.shape[along]
            matrix = resampling_matrix(own, abs(crop.step[along] / self.canvas.step[along]), length)
            matrix[(own < -0.5) | (own > length - 0.5)] = 0
            values = np.moveaxis(np.tensordot(matrix, values, (1, along)), 0, along)
        return values

    @cached_property
    def confidence(self) -> float:
        """The Dice that the mask would have if the network's probabilities were true: 0 to 1.

        Voxels that are all but surely outside are left out: in a crop of a small object they would outweigh it.
        """
        mask = self.logits > 0
        doubtful = 1 / (1 + np.exp(-self.logits[self.logits > DOUBTFUL_LOGIT]))
        inside = doubtful[doubtful > 0.5].sum()
        return float(2 * inside / max(doubtful.sum() + np.count_nonzero(mask), 1e-6))

    def agreement(self, other: Field) -> float:
        """Dice of this mask and another one of the same volume, within this one's crops; 0 where both are empty."""
        own, others = self.logits > 0, other.logits_on(self.canvas) > 0
        total = int(own.sum()) + int(others.sum())
        return 2 * int((own & others).sum()) / total if total else 0.0

    def longest_side(self) -> int:
        """Of the box around the mask, in crop voxels."""
        positive = np.argwhere(self.logits > 0)
        return int((positive.max(0) - positive.min(0)).max()) + 1 if len(positive) else 0

    def reached_offsets(self, shape: tuple[int, ...]) -> set[Index]:
        """Offsets of tiles yet to come: beyond sides that the mask meets, where the volume of `shape` goes on."""
        low = np.min(list(self.tiles), axis=0)
        reached = set()
        for offset, axis, sense in product(self.tiles, range(3), (-1, 1)):
            d, h, w = (o + sense * self.stride * (a == axis) for a, o in enumerate(offset))
            neighbour = (d, h, w)
            beyond = self.base.start[axis] + self.base.step[axis] * (offset[axis] + (self.edge if sense > 0 else -1))
            if neighbour in self.tiles or not -0.5 <= beyond <= shape[self.base.axes[axis]] - 0.5:
                continue
            place = [slice(o - b, o - b + self.edge) for o, b in zip(offset, low, strict=True)]
            last = place[axis].stop - 1 if sense > 0 else place[axis].start
            place[axis] = slice(last, last + 1)
            if np.count_nonzero(self.logits[tuple(place)] > 0) > TOUCHING_SHARE * self.edge**2:
                reached.add(neighbour)
        return reached


def one_tile(level: int, crop: Crop, logits: Float32Array) -> Field:
    """The field of a single crop."""
    return Field(level, crop, {(0, 0, 0): logits.astype(np.float16)}, crop, logits)


def kept(logits: Float32Array, include: bool) -> Float32Array:
    """Logits that hold a click's promise."""
    return np.maximum(logits, PROMISED_LOGIT) if include else np.minimum(logits, -PROMISED_LOGIT)


def cross(centre: np.ndarray, shape: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of a voxel and its six neighbours, as far as they lie in an array of `shape`."""
    points = centre + np.vstack([np.zeros((1, 3), int), np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    points = points[((points >= 0) & (points < shape)).all(1)]
    return points[:, 0], points[:, 1], points[:, 2]
