"""The Python packages that a model needs on this computer, and those of them that are missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from SAM3DSegmentLib.models.catalogue import CATALOGUE, SAM_PACKAGES


def missing_packages(model: str) -> list[str]:
    """Of a catalogue model, or of any other checkpoint; nothing is imported to find out."""
    known = CATALOGUE.get(model)
    importlib.invalidate_caches()
    return [name for name in (known.packages if known else SAM_PACKAGES) if not find_spec(name.replace("-", "_"))]
