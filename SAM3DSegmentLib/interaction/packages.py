"""The Python packages that a model needs on this computer, and those of them that are missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from SAM3DSegmentLib.models.catalogue import CATALOGUE, SAM_PACKAGES


def missing_packages(model: str) -> list[str]:
    """Of a catalogue model, or of any other checkpoint; nothing is imported to find out.

    Where one of several sets of packages suffices and none is complete, what the first one lacks.
    """
    known = CATALOGUE.get(model)
    importlib.invalidate_caches()
    lacking = [
        [name for name in packages if not find_spec(name.replace("-", "_"))]
        for packages in (known.packages if known else SAM_PACKAGES)
    ]
    return lacking[0] if all(lacking) else []
