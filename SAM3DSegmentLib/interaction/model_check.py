"""Whether a checkpoint makes a network: what an import asks before it takes the place of a model in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import DeviceError, EngineError
from SAM3DSegmentLib.interaction import packages
from SAM3DSegmentLib.models.header import SHARED_BACKBONE


def check_loads(checkpoint: Path, command: Sequence[str] | None = None) -> None:
    """Load a checkpoint in an engine process of its own on the processor, which ends with the check.

    Frozen weights alone make no network, and without the packages that a network needs nothing can be said: both pass.

    Args:
        command: that starts an engine on this computer; by default in this Python.

    Raises:
        UserError: what is wrong with the checkpoint.
    """
    if SHARED_BACKBONE.fullmatch(checkpoint.stem) or packages.missing_packages(str(checkpoint)):
        return
    try:
        with Engine(str(checkpoint), "cpu", command) as engine:
            _ = engine.specification
    except (EngineError, DeviceError):
        # An engine that cannot run, or has too little memory, says nothing against the file.
        return
