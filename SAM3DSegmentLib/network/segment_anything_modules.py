"""Building blocks of `segment_anything`, imported without the package's `__init__`.

That one imports torchvision, which these blocks do not need and which many installations of torch lack.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from types import ModuleType

from SAM3DSegmentLib.errors import CheckpointError

PACKAGE = "segment_anything"


def _register_package() -> None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise CheckpointError(
            "3DSAM-adapter models need the Python package segment-anything: install it, then try again."
        )
    package = ModuleType(PACKAGE)
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[PACKAGE] = package


if PACKAGE not in sys.modules:
    _register_package()

MLPBlock = import_module(f"{PACKAGE}.modeling.common").MLPBlock
PatchEmbed = import_module(f"{PACKAGE}.modeling.image_encoder").PatchEmbed
Attention = import_module(f"{PACKAGE}.modeling.transformer").Attention
