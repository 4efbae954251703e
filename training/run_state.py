"""The state of a run on disk: what is needed to go on exactly where it was saved."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from SAM3DSegmentLib.errors import CheckpointError, ConfigurationError
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.backbone import is_frozen
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.tensor_files import read_torch_file
from training.configuration import Configuration
from training.dataset import PreparedCase, write_beside
from training.layouts import SourceCase

STATE_FILE = "last.pt"
WITHOUT_EFFECT = ("out", "workers", "activation_checkpointing", "version", "credit", "licence")
"""Of a configuration, what may differ when a run goes on: none of it changes a number."""

Row = dict[str, float]


@dataclass(frozen=True)
class RunState:
    """A run between two steps.

    Attributes:
        conditions: the configuration and the number of processes.
        step: of how many steps it consists.
        backbone_sha256: of the file with the frozen weights in the run's folder.
        best: highest mean validation Dice so far.
        rows: of the log.
        network: all tensors but the frozen ones.
        optimizer: its state dict.
    """

    conditions: dict[str, Any]
    step: int
    backbone_sha256: str
    best: float
    rows: list[Row]
    network: dict[str, Tensor]
    optimizer: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Replace the state in the folder; the earlier one stays until the new one is complete.

        Raises:
            ExportError: the folder cannot be written.
        """
        content = io.BytesIO()
        torch.save(vars(self), content)
        write_beside(folder / STATE_FILE, content.getvalue())

    @classmethod
    def load(cls, folder: Path, conditions: dict[str, Any]) -> RunState | None:
        """The state in the folder; None where no run has begun.

        Raises:
            CheckpointError: the file is truncated or damaged, or of another version.
            ConfigurationError: the run there is another one.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            return None
        try:
            state = cls(**read_torch_file(path))
        except TypeError as error:
            raise CheckpointError(
                f"{path} is no run of this version ({error}): start again in another folder (out)."
            ) from error
        for key in sorted(conditions.keys() | state.conditions.keys()):
            there, here = state.conditions.get(key), conditions.get(key)
            if there != here:
                raise ConfigurationError(
                    f"{folder} holds a run with {key}: {there}, this one has {key}: {here}: "
                    "give the configuration that it was started with, or another folder (out)."
                )
        return state


def conditions_of(
    configuration: Configuration, processes: int, cases: Iterable[PreparedCase | SourceCase]
) -> dict[str, Any]:
    """All that the numbers of a run depend on, as plain values.

    Of the file that it starts from, and of the names, patients and splits of its cases, the checksum: with another
    patient others may be held out.
    """
    described = sorted(f"{case.name} {case.patient} {case.split}" for case in cases)
    digest = hashlib.sha256("\n".join(described).encode()).hexdigest()
    plain = {key: value for key, value in configuration.to_json().items() if key not in WITHOUT_EFFECT}
    plain["backbone"] = sha256_of(configuration.backbone) if configuration.backbone else None
    if configuration.network == "adapter":
        del plain["source"]  # It learns from the prepared data set; the compact network from the source itself.
    plain["cases"] = f"{len(described)} (SHA-256 of their names {digest})"
    return {**{k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}, "processes": processes}


def tensors_beside_backbone(network: SamAdapter) -> dict[str, Tensor]:
    """All tensors of a network in training but SAM's frozen ones, which lie in a file of their own."""
    trained = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
    return {k: v.detach().cpu() for k, v in network.state_dict().items() if k in trained or not is_frozen(k)}
