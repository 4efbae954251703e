"""Which device a network runs on."""

from __future__ import annotations

import platform

import torch

from SAM3DSegmentLib.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """The device for "auto" (CUDA, else MPS, else the CPU), "cuda", "cuda:1", "mps" or "cpu".

    Raises:
        DeviceError: the device is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in present if present[kind]))
    kind, _, number = name.partition(":")
    if kind not in present or (number and not number.isdecimal()):
        raise DeviceError(f"There is no device {name!r}: choose auto, cuda, mps or cpu.")
    if not present[kind] or (kind == "cuda" and int(number or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"The device {name!r} is not available here: choose auto or cpu.")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What the user calls the device, for example the graphics card's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
