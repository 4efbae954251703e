"""The compact network under onnxruntime: PyTorch's numbers without PyTorch, one copy of the weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import CheckpointError, DeviceError, EngineError
from SAM3DSegmentLib.geometry import Float32Array
from SAM3DSegmentLib.interaction import packages
from SAM3DSegmentLib.models.store import FOLDER_VARIABLE, import_model
from SAM3DSegmentLib.network import runtime
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import save_compact
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.network.runtime import ArrayNetwork, graph_of, open_network
from SAM3DSegmentLib.network.tensor_files import read_safetensors
from SAM3DSegmentLib.network.torch_network import TorchNetwork, load_torch_network
from SAM3DSegmentLib.phantom import make_phantom
from Testing.doubles import ball_volume, middle
from Testing.without_torch import ROOT, forbidding_torch, hiding_torch

BUNDLED = ROOT / "Resources" / "models" / "compact.safetensors"
CLICKS = [CropClick((32.0, 32.0, 32.0), True), CropClick((30.5, 12.0, 40.0), False)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The bundled checkpoint and its graph in a folder of their own."""
    for file in (BUNDLED, graph_of(BUNDLED)):
        shutil.copy(file, tmp_path)
    return tmp_path / BUNDLED.name


@pytest.fixture(scope="module")
def crop() -> Float32Array:
    """[64, 64, 64] around a lesion of the phantom, normalised for the bundled model."""
    phantom = make_phantom()
    shape = (CROP_SIZE,) * 3
    place = phantom.volume.crop_around(phantom.lesions[0].click, 1.5, shape)
    voxels, inside = place.cut(phantom.volume.voxels)
    header, _ = read_safetensors(BUNDLED)
    return Metadata.from_header(header, str(BUNDLED)).intensity.apply(voxels, inside)


def answers(network: ArrayNetwork, crop: Float32Array) -> list[Float32Array]:
    """To a first click, and to a second one with the first answer given."""
    first = network.decode(network.encode(crop, ignore), CLICKS[:1], None, ignore)
    return [first, network.decode(network.encode(crop, ignore), CLICKS, np.clip(first, -9, 9), ignore)]


def ignore(fraction: float) -> None:
    """Progress that nobody watches."""


def pretend_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[[str], object] = runtime.find_spec
    monkeypatch.setattr(runtime, "find_spec", lambda name: None if name == "torch" else found(name))


def test_onnxruntime_gives_the_logits_of_torch(crop: Float32Array) -> None:
    ours, theirs = (
        answers(network, crop) for network in (open_network(BUNDLED, "cpu"), load_torch_network(BUNDLED, "cpu"))
    )
    assert np.abs(theirs[0]).max() > 1 and (theirs[0] > 0).any()
    for mine, reference in zip(ours, theirs, strict=True):
        assert np.abs(mine - reference).max() <= 1e-3


def test_the_graph_holds_no_weights() -> None:
    assert graph_of(BUNDLED).stat().st_size < 100_000 < BUNDLED.stat().st_size / 50


def test_both_runtimes_describe_the_model_alike() -> None:
    assert open_network(BUNDLED, "cpu").specification == load_torch_network(BUNDLED, "cpu").specification


def test_the_engine_on_the_processor_never_imports_torch(
    tmp_path: Path, crop: Float32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in forbidding_torch(tmp_path).items():
        monkeypatch.setenv(name, value)
    with Engine(device="cpu") as engine:
        logits = engine.decode(crop, [(click.position, click.include) for click in CLICKS], None)
        assert engine.restarts == 0
    assert np.abs(logits - open_network(BUNDLED, "cpu").decode(crop, CLICKS, None, ignore)).max() < 0.1


def test_a_scan_is_segmented_where_torch_is_not_installed(tmp_path: Path) -> None:
    pytest.importorskip("slicer", reason="slicer-core is absent: no segmentation can be written")
    nibabel = pytest.importorskip("nibabel", reason="nibabel is absent: no scan can be written")
    volume = ball_volume(15)
    scan, mask = tmp_path / "scan.nii.gz", tmp_path / "mask.seg.nrrd"
    nibabel.save(nibabel.Nifti1Image((volume.voxels.T * 100).astype(np.int16), volume.ijk_to_ras), scan)
    script = (
        "import sys; from SAM3DSegmentLib.cli import main; "
        "status = main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(status)"
    )
    point = ",".join(f"{c:g}" for c in middle(volume))
    command = [sys.executable, "-c", script, "segment", str(scan), "--include", point, "--out", str(mask)]
    result = subprocess.run(command, cwd=ROOT, env=hiding_torch(tmp_path), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert mask.stat().st_size > 1000


def test_a_model_without_a_graph_says_that_it_needs_torch(bundle: Path, tmp_path: Path) -> None:
    graph_of(bundle).unlink()
    code = (
        "import sys; from pathlib import Path; from SAM3DSegmentLib.network.runtime import open_network; "
        "open_network(Path(sys.argv[1]), 'auto')"
    )
    command = [sys.executable, "-c", code, str(bundle)]
    result = subprocess.run(command, cwd=ROOT, env=hiding_torch(tmp_path), capture_output=True, text=True, check=False)
    assert "EngineError" in result.stderr and "install torch" in result.stderr


def test_a_checkpoint_without_a_graph_runs_under_torch(tmp_path: Path, crop: Float32Array) -> None:
    mine = tmp_path / "mine.safetensors"
    header, _ = read_safetensors(BUNDLED)
    save_compact(CompactNetwork((8, 16), (1, 2)), Metadata.from_header(header, str(BUNDLED)), mine)
    network = open_network(mine, "cpu")
    assert isinstance(network, TorchNetwork)
    assert network.decode(network.encode(crop, ignore), CLICKS, None, ignore).shape == crop.shape


def damage(checkpoint: Path, fault: str) -> None:
    """Make a graph that must not be used."""
    graph = graph_of(checkpoint)
    content = graph.read_bytes()
    if fault == "truncated":
        graph.write_bytes(content[: len(content) // 2])
    elif fault == "empty":
        graph.write_bytes(b"")
    elif fault == "no graph":
        graph.write_bytes(b"\0" * 100)
    elif fault == "elsewhere":
        graph.write_bytes(content.replace(b"compact.safetensors", b"compact.safetensorz"))
    else:
        header, tensors = read_safetensors(checkpoint)
        save_file({**tensors, "head.bias": tensors["head.bias"] + 1}, checkpoint, header)


@pytest.mark.parametrize("fault", ["truncated", "empty", "no graph", "elsewhere", "other weights"])
def test_an_unusable_graph_is_left_to_torch_or_refused(
    bundle: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(bundle, fault)
    assert isinstance(open_network(bundle, "cpu"), TorchNetwork)
    pretend_without_torch(monkeypatch)
    with pytest.raises(CheckpointError, match=r"compact\.onnx"):
        open_network(bundle, "cpu")


@pytest.mark.parametrize("length", [0, 4, 5000, 1_000_000])
def test_a_truncated_checkpoint_is_refused_by_either_runtime(
    bundle: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.write_bytes(bundle.read_bytes()[:length])
    with pytest.raises(CheckpointError):
        open_network(bundle, "cpu")
    pretend_without_torch(monkeypatch)
    with pytest.raises(CheckpointError, match="truncated"):
        open_network(bundle, "cpu")


def test_a_gpu_is_asked_of_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "may_have_gpu", lambda: True)
    assert isinstance(open_network(BUNDLED, "auto"), TorchNetwork)
    with pytest.raises(DeviceError):
        open_network(BUNDLED, "cuda:99")
    pretend_without_torch(monkeypatch)
    assert not isinstance(open_network(BUNDLED, "auto"), TorchNetwork)
    with pytest.raises(EngineError, match="needs PyTorch"):
        open_network(BUNDLED, "cuda")
    for name in ("bogus", "cuda:x", "auto:1"):
        with pytest.raises(DeviceError, match="choose auto, cuda, mps or cpu"):
            open_network(BUNDLED, name)


def test_the_bundled_model_asks_for_onnxruntime_only_where_torch_does_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here: set[str] = set()
    monkeypatch.setattr(packages, "find_spec", lambda name: name in here or None)
    assert packages.missing_packages("compact") == ["onnxruntime", "safetensors"]
    here.add("safetensors")
    assert packages.missing_packages("compact") == ["onnxruntime"]
    here.add("torch")
    assert packages.missing_packages("compact") == []
    assert packages.missing_packages("kits") == ["segment-anything"]
    here.discard("torch")
    here.add("onnxruntime")
    assert packages.missing_packages("compact", "cpu") == []
    assert packages.missing_packages("compact", "cuda") == packages.missing_packages("compact", "mps") == ["torch"]


def test_an_exported_graph_answers_like_its_checkpoint_and_is_imported_with_it(
    tmp_path: Path, crop: Float32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is absent: no graph can be exported")
    checkpoint = tmp_path / "small.safetensors"
    torch.manual_seed(0)
    header, _ = read_safetensors(BUNDLED)
    save_compact(CompactNetwork((8, 16), (1, 2)), Metadata.from_header(header, str(BUNDLED)), checkpoint)
    command = [sys.executable, "-m", "training.export_onnx", str(checkpoint)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    network = open_network(checkpoint, "cpu")
    assert not isinstance(network, TorchNetwork)
    for mine, reference in zip(
        answers(network, crop), answers(load_torch_network(checkpoint, "cpu"), crop), strict=True
    ):
        assert np.abs(mine - reference).max() <= 1e-3
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    imported = import_model(checkpoint)
    assert imported.parent == tmp_path / "models"
    assert not isinstance(open_network(imported, "cpu"), TorchNetwork)
