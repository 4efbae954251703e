"""Python processes in which PyTorch, or another package, is not installed, or importing PyTorch is an error."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HIDES = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {names} else found(name, path, target)


PathFinder.find_spec = find_spec
"""
"""Python runs a `sitecustomize.py` that it finds on its path when it starts."""


def hiding_torch(folder: Path) -> dict[str, str]:
    """The environment of a process that finds no torch."""
    return hiding(folder, "torch")


def hiding(folder: Path, *names: str) -> dict[str, str]:
    """The environment of a process that finds none of these packages."""
    (folder / "sitecustomize.py").write_text(HIDES.format(names=set(names)))
    return environment(folder)


def forbidding_torch(folder: Path) -> dict[str, str]:
    """The environment of a process that finds torch and fails when it imports it."""
    (folder / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    return environment(folder)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
