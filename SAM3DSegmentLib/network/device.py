"""Which device a network runs on."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from SAM3DSegmentLib.errors import DeviceError

if TYPE_CHECKING:
    import torch

GPU_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
KINDS = ("cuda", "mps", "cpu")
AMD_DRIVER = Path("/dev/kfd")


def may_have_gpu() -> bool:
    """Whether a driver is here through which PyTorch may find a GPU; PyTorch itself takes a second to tell."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if AMD_DRIVER.exists():
        return True
    try:
        ctypes.CDLL(GPU_DRIVERS[sys.platform])
    except (KeyError, OSError):
        return False
    return True


def check_device_name(name: str) -> None:
    """
    Raises:
        DeviceError: no device can have this name.
    """
    kind, _, number = name.partition(":")
    if name != "auto" and (kind not in KINDS or (number and not number.isdecimal())):
        raise DeviceError(f"There is no device {name!r}: choose auto, cuda, mps or cpu.")


def choose_device(name: str) -> torch.device:
    """The device for "auto" (CUDA, else MPS, else the CPU), "cuda", "cuda:1", "mps" or "cpu".

    Raises:
        DeviceError: the device is not there.
    """
    import torch

    check_device_name(name)
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in present if present[kind]))
    kind, _, number = name.partition(":")
    if not present[kind] or (kind == "cuda" and int(number or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"The device {name!r} is not available here: choose auto or cpu.")
    return torch.device(name)
