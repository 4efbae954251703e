"""Clicks in training, as the product's users make them: one into the target, then corrections of each answer."""

from __future__ import annotations

import numpy as np

from SAM3DSegmentLib.evaluation.simulated_user import next_click
from SAM3DSegmentLib.geometry import BoolArray

CROP_SPACING = (1.0, 1.0, 1.0)

SLIP = 4
"""Voxels along each axis by which a click that slips lies beside what it was meant for, at most."""


class CropUser:
    """A simulated user, and the clicks made so far on one crop.

    Attributes:
        positions: voxel (d, h, w) of each click.
        include: whether each click includes.

    Args:
        target: [S, S, S].
    """

    def __init__(self, target: BoolArray, rng: np.random.Generator) -> None:
        self.positions: list[tuple[int, int, int]] = []
        self.include: list[bool] = []
        self._target = target
        self._rng = rng

    def click(self, answer: BoolArray | None, noisy_share: float, slip_share: float = 0) -> None:
        """Make the next click; none where the answer equals the target.

        Args:
            answer: [S, S, S], to the clicks so far; None before the first.
            noisy_share: how likely the click is not where the error is deepest.
            slip_share: how likely a corrective click slips, at times across the border of what it was meant for.
        """
        noisy = bool(self._rng.random() < noisy_share)
        click = next_click(self._target, answer, CROP_SPACING, self._rng, noisy)
        if click is None:
            return
        position, include = click
        if self.positions and slip_share and self._rng.random() < slip_share:
            position = self._slipped(position)
        self.positions.append(position)
        self.include.append(include)

    def _slipped(self, position: tuple[int, int, int]) -> tuple[int, int, int]:
        slip = self._rng.integers(-SLIP, SLIP + 1, 3)
        d, h, w = (int(p) for p in np.clip(np.asarray(position) + slip, 0, np.asarray(self._target.shape) - 1))
        return d, h, w

    def click_middle(self) -> bool:
        """Make an include click in the middle of the crop, where a first crop lies; False where the target does not."""
        d, h, w = (length // 2 for length in self._target.shape)
        if self._target[d, h, w]:
            self.positions.append((d, h, w))
            self.include.append(True)
        return bool(self._target[d, h, w])

    def clicks(self, include: bool) -> list[tuple[int, int, int]]:
        """The positions of the clicks of one sign."""
        return [p for p, sign in zip(self.positions, self.include, strict=True) if sign == include]
