"""Half precision as a GPU computes it, on a processor that has no instructions for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU = "cpu"
PRODUCTS = {
    F.linear,
    F.conv2d,
    F.conv3d,
    F.conv_transpose2d,
    F.conv_transpose3d,
    F.scaled_dot_product_attention,
    torch.bmm,
    torch.matmul,
    torch.einsum,
    Tensor.matmul,
    Tensor.__matmul__,
}
"""That autocast computes in half precision."""


class RoundedProducts(TorchFunctionMode):
    """Within autocast on the CPU: factors rounded to half precision, summed up in float32, the product rounded.

    That is what the matrix units of a GPU do. The processor's own emulation takes ten times as long.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = keywords or {}
        if function not in PRODUCTS or not torch.is_autocast_enabled(CPU):
            return function(*arguments, **keywords)
        dtype = torch.get_autocast_dtype(CPU)
        rounded = [a.to(dtype).float() if isinstance(a, Tensor) else a for a in arguments]
        with torch.autocast(CPU, enabled=False):
            return function(*rounded, **keywords).to(dtype)
