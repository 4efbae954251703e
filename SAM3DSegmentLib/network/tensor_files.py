"""Files of tensors: read without running code, held against what is expected key by key, written in one step."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from SAM3DSegmentLib.errors import CheckpointError, ExportError
from SAM3DSegmentLib.models.header import read_header

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

NAMED_KEYS = 20
"""A message names so many keys of one kind and counts the rest."""

UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OSError,
)
"""What `torch.load` raises for damaged and hostile files."""


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file.

    Raises:
        CheckpointError: the file is truncated or no safetensors file.
    """
    try:
        read_header(path)
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}): download or import it again.") from error


def write_safetensors(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write beside the target and give it its name at the end; an earlier file of that name is replaced.

    Raises:
        ExportError: the folder cannot be written.
    """
    contents = {key: value.contiguous() for key, value in tensors.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(contents, partial, dict(metadata))
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path} cannot be written ({error}): free space or choose another folder.") from error
    finally:
        partial.unlink(missing_ok=True)


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, as long as it is plain tensors and containers; never runs code from the file.

    Raises:
        CheckpointError: the file is truncated, wants to run code, or is no PyTorch checkpoint.
    """
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no PyTorch checkpoint or its download broke off: download it again.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than plain tensors and was not loaded: get it from its authors again."
        ) from error
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}): download it again.") from error


def check_tensors(found: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Hold tensors against the shapes that a network needs.

    Args:
        what: the network and the file, for the message.

    Raises:
        CheckpointError: keys are missing, surplus, of another shape, or hold no finite numbers; it names each.
    """
    faults: dict[str, list[str]] = {
        "missing": [key for key in expected if key not in found],
        "surplus": [str(key) for key in found if key not in expected],
        "misshapen": [],
        "not of finite numbers": [],
    }
    for key, shape in expected.items():
        if key not in found:
            continue
        value = found[key]
        if not is_plain(value):
            faults["not of finite numbers"].append(key)
        elif tuple(value.shape) != tuple(shape):
            faults["misshapen"].append(f"{key} {list(value.shape)} instead of {list(shape)}")
    if not any(faults.values()):
        faults["not of finite numbers"] = [key for key in expected if not is_finite(found[key])]
    named = [f"{kind}: {', '.join(shortened(keys))}" for kind, keys in faults.items() if keys]
    if named:
        raise CheckpointError(
            f"{what} does not fit the network ({'; '.join(named)}): choose the checkpoint that belongs to it."
        )


def is_plain(value: Any) -> bool:
    """Whether a value is a dense tensor of floating-point numbers that are really there."""
    return isinstance(value, Tensor) and value.dtype in DTYPES and value.layout == torch.strided and not value.is_meta


def is_finite(value: Tensor) -> bool:
    """Whether all numbers are finite; by their limits, which takes a fifth of the time of looking at each."""
    return bool(torch.stack(torch.aminmax(value)).isfinite().all())


def shortened(keys: list[str]) -> list[str]:
    """The first `NAMED_KEYS` keys, and how many more there are."""
    return keys if len(keys) <= NAMED_KEYS else [*keys[:NAMED_KEYS], f"and {len(keys) - NAMED_KEYS} more"]


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a module's state."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}
