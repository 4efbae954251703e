"""The house's layers: what may be imported where (the viewer's process never loads torch)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "SAM3DSegmentLib"
NUMPY_ONLY = (
    "geometry",
    "clicks",
    "segmenter",
    "field",
    "morphology",
    "intensity",
    "specification",
    "measure",
    "phantom",
    "start",
    "crop_answers",
    "known_answers",
    "first_look",
    "prediction",
)
NETWORK_SIDE = ("network", "engine/server.py")


def imported(path: Path) -> set[str]:
    """Top-level names of every import in a file, also those within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def files_outside(parts: tuple[str, ...]) -> list[Path]:
    return [p for p in LIBRARY.rglob("*.py") if not p.relative_to(LIBRARY).as_posix().startswith(parts)]


@pytest.mark.parametrize("path", files_outside(NETWORK_SIDE), ids=lambda p: p.relative_to(LIBRARY).as_posix())
def test_the_viewers_side_never_imports_torch(path: Path) -> None:
    assert not imported(path) & {"torch", "safetensors", "segment_anything", "monai"}


def test_the_network_never_imports_slicer() -> None:
    for path in (LIBRARY / "network").rglob("*.py"):
        assert not imported(path) & {"slicer", "vtk", "vtkmodules"}


@pytest.mark.parametrize("module", NUMPY_ONLY)
def test_the_segmenters_modules_need_numpy_alone(module: str) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "SAM3DSegmentLib"}
    assert imported(LIBRARY / f"{module}.py") <= allowed


@pytest.mark.parametrize("folder", ["models", "engine"])
def test_models_and_client_need_no_installed_package_but_numpy(folder: str) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "SAM3DSegmentLib"}
    for path in (LIBRARY / folder).glob("*.py"):
        if path.name != "server.py":
            assert imported(path) <= allowed


def test_a_whole_viewer_process_loads_no_torch() -> None:
    code = (
        "import sys, SAM3DSegmentLib.headless, SAM3DSegmentLib.cli, SAM3DSegmentLib.phantom, SAM3DSegmentLib.scan;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
