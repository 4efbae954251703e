"""The Python packages that a model needs on this computer, and those of them that are missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from SAM3DSegmentLib.errors import UnknownModelError
from SAM3DSegmentLib.models.catalogue import CATALOGUE, COMPACT, COMPACT_PACKAGES, SAM_PACKAGES
from SAM3DSegmentLib.models.header import architecture_of
from SAM3DSegmentLib.models.store import find_model

ON_PROCESSOR = ("auto", "cpu")
"""Devices that a network runs on without PyTorch, if it has a graph."""


def missing_packages(model: str, device: str = "auto") -> list[str]:
    """Of a model in the catalogue or the models folder, or of the checkpoint of that path; nothing is imported for it.

    Where one of several sets of packages suffices and none is complete, what the first one lacks.

    Args:
        device: "auto", "cpu", or that of a GPU, for which only sets with PyTorch suffice.
    """
    importlib.invalidate_caches()
    sets = [packages for packages in packages_of(model) if device in ON_PROCESSOR or "torch" in packages]
    lacking = [[name for name in packages if not find_spec(name.replace("-", "_"))] for packages in sets]
    return lacking[0] if all(lacking) else []


def packages_of(model: str) -> tuple[tuple[str, ...], ...]:
    """Sets of packages, each of which suffices; for a checkpoint that is nowhere to be found, those of SAM."""
    known = CATALOGUE.get(model)
    if known:
        return known.packages
    try:
        checkpoint = find_model(model)
    except UnknownModelError:
        return SAM_PACKAGES
    if architecture_of(checkpoint) != COMPACT.kind:
        return SAM_PACKAGES
    has_graph = checkpoint.with_suffix(".onnx").is_file()
    return COMPACT_PACKAGES if has_graph else tuple(packages for packages in COMPACT_PACKAGES if "torch" in packages)
