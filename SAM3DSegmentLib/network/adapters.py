"""The small modules that adapt a block of SAM to 3D: the paper's, and those that it is compared with.

Each maps tokens [B, H, W, D, C] to the same and is the identity where `linear2` is zero.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SpatialAdapter(nn.Module):
    """`x + relu(linear2(relu(dwconv(relu(linear1(x))))))` (paper, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width // 2)
        self.conv = nn.Conv3d(width // 2, width // 2, 3, padding=1, groups=width // 2)
        self.linear2 = nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.linear1(x)).movedim(-1, 1)
        y = F.relu(self.conv(y)).movedim(1, -1)
        # A ReLU that lets the gradient pass at 0, so that an adapter that starts as the identity can learn.
        return x + self.linear2(y).clamp_min(0)


class BottleneckAdapter(nn.Module):
    """`x + linear2(gelu(linear1(x)))`: each token by itself (Houlsby et al., ICML 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width // 2)
        self.linear2 = nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(F.gelu(self.linear1(x)))
        return x + y


class DepthAdapter(nn.Module):
    """`x + linear2(gelu(dwconv(linear1(x))))`, the convolution along D only (ST-Adapter: Pan et al., NeurIPS 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width // 2)
        self.conv = nn.Conv3d(width // 2, width // 2, (1, 1, 3), padding=(0, 0, 1), groups=width // 2)
        self.linear2 = nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.linear1(x).movedim(-1, 1)).movedim(1, -1)
        y = self.linear2(F.gelu(y))
        return x + y


class NoAdapter(nn.Identity):
    """Of a network whose SAM weights were changed instead."""

    def __init__(self, width: int) -> None:
        super().__init__()


ADAPTERS: dict[str, type[nn.Module]] = {
    "spatial": SpatialAdapter,
    "bottleneck": BottleneckAdapter,
    "st": DepthAdapter,
    "none": NoAdapter,
}
"""By the name that a checkpoint holds."""
