"""3DSAM-adapter behind the interface of every network: precision, memory, and clicks that exclude."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from SAM3DSegmentLib.network.interface import CropClick, Progress
from SAM3DSegmentLib.network.sam_adapter import CropEncoding, SamAdapter
from SAM3DSegmentLib.specification import Specification

WINDOWS_AT_ONCE = {"cuda": 32}
WINDOWS_AT_ONCE_ELSEWHERE = 2
"""What they need then stays near the processor, and their buffers are used again instead of asked for anew."""

logger = logging.getLogger(__name__)


class AdapterPredictor:
    """`PromptableNetwork` on a `SamAdapter`.

    Out of GPU memory, it goes on with fewer attention windows at once, and at last on the CPU. What half
    precision cannot hold of a crop or of a list of clicks is computed in float32.

    Args:
        dtype: of the products in autocast; None for plain float32. bfloat16 is too coarse for what comes after the
            encoder's blocks, where masks would lose a part in a hundred: it is for the blocks alone.
    """

    def __init__(
        self, network: SamAdapter, specification: Specification, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        self.specification = specification
        self._network = network.to(device).eval()
        self.device = device
        self._use(dtype)
        self._windows_at_once = WINDOWS_AT_ONCE.get(device.type, WINDOWS_AT_ONCE_ELSEWHERE)

    def _use(self, dtype: torch.dtype | None) -> None:
        self._blocks_dtype = dtype
        self._dtype = None if dtype == torch.bfloat16 else dtype

    @torch.inference_mode()
    def encode(self, crop: Tensor, progress: Progress) -> CropEncoding:
        encoding = self._encode(crop, progress)
        if self._dtype is None or encoding.is_finite():
            return encoding
        logger.warning("%s cannot hold what this network computes of this crop: computing it in float32.", self._dtype)
        return self._encode(crop, progress, in_float32=True)

    def _encode(self, crop: Tensor, progress: Progress, in_float32: bool = False) -> CropEncoding:
        """The encoding, in the present device's types or in float32: the device may change on the way."""
        while True:
            dtype, blocks_dtype = (None, None) if in_float32 else (self._dtype, self._blocks_dtype)
            try:
                with self._precision(dtype):
                    voxels = crop.to(self.device, torch.float32)
                    return self._network.encode(voxels, self._windows_at_once, progress, blocks_dtype)
            except torch.cuda.OutOfMemoryError:
                self._need_less_memory()

    @torch.inference_mode()
    def decode(
        self, encoding: CropEncoding, clicks: Sequence[CropClick], previous: Tensor | None, progress: Progress
    ) -> Tensor:
        try:
            return self._decode(encoding, clicks, previous, progress)
        except torch.cuda.OutOfMemoryError:
            self._move_to_cpu()
            return self._decode(encoding, clicks, previous, progress)

    def _decode(
        self, encoding: CropEncoding, clicks: Sequence[CropClick], previous: Tensor | None, progress: Progress
    ) -> Tensor:
        progress(0.0)
        encoding = encoding.to(self.device)
        answer = None if previous is None else previous.to(self.device, torch.float32)
        logits = self._answer(encoding, clicks, answer, progress, self._dtype)
        if self._dtype is not None and not torch.isfinite(logits).all():
            logits = self._answer(encoding, clicks, answer, progress, None)
        progress(1.0)
        return logits

    def _answer(
        self,
        encoding: CropEncoding,
        clicks: Sequence[CropClick],
        previous: Tensor | None,
        progress: Progress,
        dtype: torch.dtype | None,
    ) -> Tensor:
        """Logits [S, S, S] of the clicked object, products in `dtype`."""
        if dtype is None:
            encoding = encoding.float()
        if self.specification.signed:
            return self._object(encoding, clicks, previous, dtype)
        logits = self._object(encoding, [c for c in clicks if c.include], previous, dtype)
        exclude = [c for c in clicks if not c.include]
        if exclude:
            progress(0.5)
            # A voxel is the include clicks' where they beat both the background (0) and the other object.
            logits = logits - self._object(encoding, exclude, None, dtype).clamp_min(0)
        return logits

    def _object(
        self, encoding: CropEncoding, clicks: Sequence[CropClick], previous: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Logits [S, S, S] of the object that the clicks name."""
        points = torch.tensor([click.position for click in clicks], device=self.device, dtype=torch.float32)
        include = torch.tensor([click.include for click in clicks], device=self.device)
        with self._precision(dtype):
            background, tumour = self._network.decode(encoding, points, include, previous).float()
        return tumour - background

    def _precision(self, dtype: torch.dtype | None) -> torch.autocast:
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def _need_less_memory(self) -> None:
        if self._windows_at_once == 1:
            self._move_to_cpu()
            return
        self._windows_at_once //= 2
        logger.warning("GPU memory is short: going on with %d attention windows at once.", self._windows_at_once)
        torch.cuda.empty_cache()

    def _move_to_cpu(self) -> None:
        logger.warning("GPU memory does not suffice for this network: going on with the CPU, which is slower.")
        self.device = torch.device("cpu")
        self._network.to(self.device)
        self._use(compute_dtype(self.device))
        self._windows_at_once = WINDOWS_AT_ONCE_ELSEWHERE
        torch.cuda.empty_cache()


def compute_dtype(device: torch.device) -> torch.dtype | None:
    """The type in which products on a device are fastest and the masks still float32's; None for float32.

    Of a GPU's two fast types float16 rounds eight times finer than bfloat16. A CPU without instructions for bfloat16
    emulates it, several times slower than float32.
    """
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if is_fast_at_bfloat16(device) else None


def is_fast_at_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Older versions of torch cannot tell.
    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))
