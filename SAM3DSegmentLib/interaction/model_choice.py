"""The models that a user can choose from: those on this computer, then those of the catalogue that are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SAM3DSegmentLib.errors import ModelStoreError
from SAM3DSegmentLib.models.catalogue import CATALOGUE, Model
from SAM3DSegmentLib.models.header import SHARED_BACKBONE
from SAM3DSegmentLib.models.store import GRAPH_SUFFIX, StoredModel, list_models

FROZEN_WEIGHTS = "These are frozen weights that models stand on: such a model can be imported now."


@dataclass(frozen=True)
class ModelChoice:
    """One line of the list.

    Attributes:
        title: what the user calls it.
        stored: the model on this computer, None where it is not there.
        known: what the catalogue says of it, None where it says nothing.
    """

    name: str
    title: str
    stored: StoredModel | None
    known: Model | None

    @property
    def megabytes(self) -> str:
        """The size of its download in brackets; empty where nobody knows it."""
        return f" ({self.known.size / 1e6:.0f} MB)" if self.known and self.known.size else ""

    @property
    def can_download(self) -> bool:
        """Whether it is not here and has an address."""
        return bool(self.known and self.known.url and not self.stored)

    @property
    def can_delete(self) -> bool:
        """Whether it is here and did not come with the project."""
        return bool(self.stored and not self.stored.bundled)


def model_choices() -> dict[str, ModelChoice]:
    """All choices by name, in the order of the list."""
    stored = {model.name: model for model in list_models()}
    names = [*stored, *(name for name in CATALOGUE if name not in stored)]
    return {
        name: ModelChoice(name, known.title if known else name, stored.get(name), known)
        for name, known in ((name, CATALOGUE.get(name)) for name in names)
    }


def name_of_file(file: Path) -> str | None:
    """Under which name a file in the models folder stands in the list; None for frozen weights, which are no choice."""
    return next((model.name for model in list_models() if model.path == file), None)


def checkpoint_among(files: Path) -> Path:
    """The checkpoint that was chosen: a file, or the one in a folder that holds its frozen weights or its graph too.

    Raises:
        ModelStoreError: the folder holds none, or several.
    """
    if files.is_file():
        return files
    checkpoints = [
        file for file in files.iterdir() if not SHARED_BACKBONE.fullmatch(file.stem) and file.suffix != GRAPH_SUFFIX
    ]
    if len(checkpoints) != 1:
        raise ModelStoreError(
            "Choose one checkpoint at a time, and with it only the frozen weights that it needs, or its graph."
        )
    return checkpoints[0]
