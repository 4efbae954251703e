"""The one interface of every network: encode a crop once, decode it for each click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from SAM3DSegmentLib.specification import Specification

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Progress = Callable[[float], None]
"""Called with the finished fraction of the work, 0 to 1; raises `CancelledError` where the work is called off."""


@dataclass(frozen=True)
class CropClick:
    """A click in voxels (d, h, w) of the crop."""

    position: tuple[float, float, float]
    include: bool


class PromptableNetwork(Protocol):
    """A network on its device, ready to answer.

    Attributes:
        device: where it answers; another one from the answer on for which that one's memory did not suffice.
    """

    specification: Specification
    device: torch.device

    def encode(self, crop: Tensor, progress: Progress) -> Any:
        """What `decode` needs of a crop, kept on the device.

        Args:
            crop: [S, S, S] float, axes (D, H, W), normalised; zeros outside the volume.
        """

    def decode(self, encoding: Any, clicks: Sequence[CropClick], previous: Tensor | None, progress: Progress) -> Tensor:
        """Logits [S, S, S] float32 of the clicked object: above 0 is inside.

        Args:
            clicks: at least one of them an include click.
            previous: [S, S, S], the logits of the answer before these clicks, or None.
        """
