"""The Slicer extension: what its CMake files package, and what the Extensions Index asks for."""

from __future__ import annotations

import ast
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "SAM3DSegment"
INSTALLED = Path("lib/Slicer-5.12/qt-scripted-modules")
SLICERS_OWN = {"SAM3DSegmentLib", "SAM3DSegmentPanels", "qt", "ctk", "slicer", "vtk", "vtkmodules", "numpy"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The extension configured and installed by cmake against a stand-in for Slicer, and what cmake printed."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed: the extension cannot be configured")
    build, prefix = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("installed")
    package = ROOT / "Testing" / "slicer_package"
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), f"-DSlicer_DIR={package}"]
    output = subprocess.run(configure, capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stderr
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)], capture_output=True, check=True)
    return prefix / INSTALLED, output.stdout


def packaged_sources() -> set[str]:
    """What has to be in the package, relative to where the modules are installed."""
    module = [p.relative_to(MODULE) for p in MODULE.rglob("*") if p.is_file() and p.name != "CMakeLists.txt"]
    library = [p.relative_to(ROOT) for p in (ROOT / "SAM3DSegmentLib").rglob("*.py")]
    models = [p.relative_to(ROOT) for p in (ROOT / "Resources" / "models").iterdir()]
    return {p.as_posix() for p in [*module, *library, *models] if "__pycache__" not in p.parts}


def test_package_holds_every_file_of_module_and_library_and_no_other(installed: tuple[Path, str]) -> None:
    folder, _ = installed
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == packaged_sources()


def test_installed_library_finds_its_bundled_model(installed: tuple[Path, str]) -> None:
    folder, _ = installed
    code = "from SAM3DSegmentLib.models.store import list_models; print(list_models()[0].path)"
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert Path(result.stdout.strip()) == folder / "Resources" / "models" / "compact.safetensors"


def test_index_entry_agrees_with_the_cmake_file(installed: tuple[Path, str]) -> None:
    entry = json.loads((ROOT / "SAM3DSegment.json").read_text())
    _, output = installed
    assert "1.0.1" in entry["$schema"] and entry["tier"] in (1, 3, 5)
    assert f"EXTENSION_CATEGORY={entry['category']}" in output
    assert f"EXTENSION_HOMEPAGE={entry['scm_url']}" in output
    assert f"EXTENSION_DEPENDS={';'.join(entry['build_dependencies'])}" in output
    assert "project(SAM3DSegment " in (ROOT / "CMakeLists.txt").read_text()


def test_pictures_that_the_index_shows_are_in_the_tree(installed: tuple[Path, str]) -> None:
    _, output = installed
    for field in ("ICONURL", "SCREENSHOTURLS"):
        url = next(line for line in output.splitlines() if f"EXTENSION_{field}=" in line)
        assert (ROOT / url.split("/main/")[1]).is_file()
    header = (MODULE / "Resources" / "Icons" / "SAM3DSegment.png").read_bytes()[16:24]
    assert struct.unpack(">II", header) == (128, 128)


def test_text_files_of_the_extension_end_lines_with_lf_and_a_licence_is_there() -> None:
    files = [ROOT / "CMakeLists.txt", ROOT / "SAM3DSegment.json", *MODULE.rglob("*.py"), *MODULE.rglob("*.ui")]
    assert all(b"\r" not in file.read_bytes() for file in files)
    assert (ROOT / "LICENSE").is_file()


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.py")), ids=lambda p: p.name)
def test_module_imports_and_runs_nothing_foreign_at_file_scope(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names) | SLICERS_OWN
        else:
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            assert is_text or is_for_types or isinstance(node, (ast.Assign, ast.FunctionDef, ast.ClassDef))


def test_the_shell_stays_small() -> None:
    assert len((MODULE / "SAM3DSegment.py").read_text().splitlines()) <= 400


def test_requirements_are_never_pinned_and_leave_torch_to_its_extension() -> None:
    lines = (MODULE / "Resources" / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements and not any("==" in line or line.startswith("torch") for line in requirements)


def test_every_widget_that_the_code_names_is_in_the_panel() -> None:
    names = {w.get("name") for w in ElementTree.parse(MODULE / "Resources" / "UI" / "SAM3DSegment.ui").iter("widget")}
    for path in MODULE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("ui", "self.ui", "self._ui"):
                assert node.attr in names, f"{path.name} names {node.attr}"
