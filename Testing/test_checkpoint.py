"""Checkpoints: our format and the published one in, nothing hostile or damaged accepted, one backbone for all tasks."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from SAM3DSegmentLib.cli import main
from SAM3DSegmentLib.errors import CheckpointError, ExportError, UnknownModelError
from SAM3DSegmentLib.intensity import CropStatistics, FixedWindow
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network import adapter_checkpoint
from SAM3DSegmentLib.network.adapter_checkpoint import adapter_from, save_adapter, save_backbone
from SAM3DSegmentLib.network.backbone import is_frozen
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.compact import CompactNetwork
from SAM3DSegmentLib.network.compact_predictor import save_compact
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE, network_inputs, weight_of_the_new
from SAM3DSegmentLib.network.convert import convert_published
from SAM3DSegmentLib.network.interface import CropClick
from SAM3DSegmentLib.network.metadata import METADATA_KEY, Metadata
from SAM3DSegmentLib.network.published import read_published
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.sam_weights import read_sam, sizes_of, untrained_network
from SAM3DSegmentLib.network.tensor_files import read_safetensors, write_safetensors
from Testing.reduced_network import (
    SIZES,
    float32_cpu,
    ignore,
    published_content,
    random_crop,
    random_network,
    sam_state,
    write_published,
)

CPU = torch.device("cpu")
DESCRIPTION = Metadata(
    name="test",
    version="2",
    task="any lesion",
    intensity=CropStatistics(),
    spacings=(0.75, 1.5),
    signed=True,
    antialias=True,
    training_data="spheres",
    metrics={"dice_1": 0.8},
    licence="Apache-2.0",
)
CLICKS = [CropClick((16.0, 17.0, 15.0), True), CropClick((3.0, 9.0, 20.0), False)]


def load_reduced(path: Path) -> SamAdapter:
    """The bare network of an adapter checkpoint."""
    header, tensors = read_safetensors(path)
    return adapter_from(Metadata.from_header(header, str(path)), tensors, path, CPU)


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """An adapter checkpoint with its backbone beside it."""
    published = write_published(random_network(), tmp_path / "published.pth")
    return convert_published(published, "kits", tmp_path / "models", SIZES)[0]


@pytest.fixture
def compact(tmp_path: Path) -> Path:
    path = tmp_path / "compact.safetensors"
    torch.manual_seed(0)
    save_compact(CompactNetwork((16, 24), (1, 2)), DESCRIPTION, path)
    return path


def test_a_compact_network_answers_after_loading_as_before_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CompactNetwork((16, 24), (1, 2)).eval()
    path = tmp_path / "compact.safetensors"
    save_compact(network, DESCRIPTION, path)
    loaded = load_network(path, CPU)
    crop = torch.randn((CROP_SIZE,) * 3)
    encoding = loaded.encode(crop, ignore)
    logits = loaded.decode(encoding, CLICKS, None, ignore)
    network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
    first, second = (network_inputs(crop.numpy(), CLICKS, before) for before in (None, crop.numpy()))
    with torch.no_grad():
        expected, corrected = (
            network(**{name: torch.from_numpy(values) for name, values in inputs.items()})[0, 0]
            for inputs in (first, second)
        )
    assert (logits - expected).abs().max() <= 1e-4
    later = loaded.decode(encoding, CLICKS, crop, ignore)
    near = tuple(round(c) for c in CLICKS[-1].position)
    assert later[near].item() == pytest.approx(corrected[near].item(), abs=1e-3)
    weight = torch.from_numpy(weight_of_the_new(CLICKS[-1].position, CROP_SIZE))
    assert (later - torch.lerp(crop, corrected, weight)).abs().max() <= 1e-4
    assert loaded.specification.sha256 == sha256_of(path)
    assert loaded.specification.spacings == (0.75, 1.5)
    assert loaded.specification.signed and loaded.specification.antialias
    assert isinstance(loaded.specification.intensity, CropStatistics)


def test_a_converted_checkpoint_gives_the_published_numbers(converted: Path) -> None:
    with float32_cpu():
        loaded = load_network(converted, CPU)
    published = random_network()
    with torch.no_grad():
        encoding = published.encode(random_crop(), 8, ignore)
        background, tumour = published.decode(encoding, torch.tensor([CLICKS[0].position]), torch.tensor([True]), None)
    logits = loaded.decode(loaded.encode(random_crop(), ignore), CLICKS[:1], None, ignore)
    assert (logits - (tumour - background)).abs().max() <= 0.02
    assert loaded.specification.name == "kits"
    assert loaded.specification.intensity == FixedWindow(-54, 247, 59.53867, 55.457336)
    assert loaded.specification.crop_size == SIZES.crop


def test_masks_and_the_backbone_are_not_stored_with_the_adapter(converted: Path) -> None:
    keys = set(load_file(converted))
    assert not any("attn_mask" in key or is_frozen(key) for key in keys)
    assert not any(key.startswith("additions.") for key in keys)
    assert all(value.dtype == torch.float16 for value in load_file(converted).values())


def test_two_tasks_share_one_backbone_on_disk_and_in_memory(tmp_path: Path) -> None:
    first = random_network()
    second = random_network(seed=5)
    second.load_state_dict({k: v for k, v in first.state_dict().items() if "adapter" not in k}, strict=False)
    folder = tmp_path / "models"
    kits, backbone = convert_published(write_published(first, tmp_path / "a.pth"), "kits", folder, SIZES)
    lits, same = convert_published(write_published(second, tmp_path / "b.pth"), "lits", folder, SIZES)
    assert backbone == same
    one, other = load_reduced(kits), load_reduced(lits)
    name = "blocks.1.mlp.lin1.weight"
    assert one.encoder.get_parameter(name).data_ptr() == other.encoder.get_parameter(name).data_ptr()
    name = "blocks.1.adapter.conv.weight"
    assert not torch.equal(one.encoder.get_parameter(name), other.encoder.get_parameter(name))


def test_additions_come_back_where_a_network_has_them(converted: Path, tmp_path: Path) -> None:
    network = load_reduced(converted)
    network.add_additions()
    with torch.no_grad():
        network.additions.sign.fill_(0.5)
    path = converted.with_name("trained.safetensors")
    sha256 = json.loads(read_safetensors(converted)[0][METADATA_KEY])["backbone_sha256"]
    save_adapter(network, DESCRIPTION, sha256, path)
    assert torch.equal(load_reduced(path).additions.sign, network.additions.sign)


def test_sams_own_file_serves_as_the_backbone(tmp_path: Path) -> None:
    sam = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(sam_state(), sam)
    network = untrained_network(read_sam(sam), SIZES.window, SIZES.channels)
    path = tmp_path / "fresh.safetensors"
    save_adapter(network, DESCRIPTION, sha256_of(sam), path)
    expected = sam_state()["image_encoder.blocks.2.attn.proj.weight"]
    assert torch.equal(load_reduced(path).encoder.get_parameter("blocks.2.attn.proj.weight"), expected)


def test_a_backbone_of_another_checksum_is_refused_by_name(tmp_path: Path) -> None:
    large = tmp_path / "sam_vit_l_0b3195.pth"
    torch.save(sam_state(seed=1), large)
    network = untrained_network(sam_state(), SIZES.window, SIZES.channels)
    save_adapter(network, DESCRIPTION, "ab" * 32, tmp_path / "fresh.safetensors")
    with pytest.raises(CheckpointError, match=f"(?s){'ab' * 32}.*sam_vit_l_0b3195.pth"):
        load_network(tmp_path / "fresh.safetensors", CPU)


def test_a_wider_backbone_below_narrow_adapters_is_refused_key_by_key(tmp_path: Path) -> None:
    wide = tmp_path / "sam_vit_l_0b3195.pth"
    torch.save(sam_state(width=64), wide)
    network = untrained_network(sam_state(), SIZES.window, SIZES.channels)
    save_adapter(network, DESCRIPTION, sha256_of(wide), tmp_path / "fresh.safetensors")
    with pytest.raises(CheckpointError, match=r"encoder\.pos_embed"):
        load_network(tmp_path / "fresh.safetensors", CPU)


@pytest.mark.parametrize(
    ("width", "depth", "head", "heads"), [(768, 12, 64, 12), (1024, 24, 64, 16), (1280, 32, 80, 16)]
)
def test_the_layouts_of_vit_b_l_and_h_are_told_by_their_shapes(width: int, depth: int, head: int, heads: int) -> None:
    state = {
        "image_encoder.pos_embed": torch.empty(1, 64, 64, width, device="meta"),
        **{f"image_encoder.blocks.{i}.attn.rel_pos_h": torch.empty(27, head, device="meta") for i in range(depth)},
    }
    sizes = sizes_of(state, 8, 256)
    assert (sizes.width, sizes.depth, sizes.heads, sizes.crop) == (width, depth, heads, 128)


def break_published(content: dict[str, Any], fault: str) -> None:
    encoder: dict[str, Tensor] = content["encoder_dict"]
    if fault == "missing":
        del encoder["blocks.1.mlp.lin2.bias"]
    elif fault == "surplus":
        content["decoder_dict"]["cls.9.weight"] = torch.zeros(1)
    elif fault == "empty":
        encoder["blocks.1.mlp.lin2.bias"] = torch.empty(SIZES.width, device="meta")
    elif fault == "whole numbers":
        encoder["blocks.1.mlp.lin2.bias"] = torch.zeros(SIZES.width, dtype=torch.int8)
    elif fault == "misshapen":
        content["feature_dict"][2]["positional_encoding_gaussian_matrix"] = torch.zeros(3, 9)
    else:
        encoder["blocks.1.mlp.lin2.bias"] = torch.full((SIZES.width,), float("nan"))


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("missing", r"missing: encoder_dict\.blocks\.1\.mlp\.lin2\.bias"),
        ("surplus", r"surplus: decoder_dict\.cls\.9\.weight"),
        ("misshapen", r"misshapen: feature_dict\.2\.positional_encoding_gaussian_matrix \[3, 9\] instead of \[3, 16\]"),
        ("empty", r"not of finite numbers: encoder_dict\.blocks\.1\.mlp\.lin2\.bias"),
        ("whole numbers", r"not of finite numbers: encoder_dict\.blocks\.1\.mlp\.lin2\.bias"),
        ("nan", r"not of finite numbers: encoder_dict\.blocks\.1\.mlp\.lin2\.bias"),
    ],
)
def test_a_published_checkpoint_with_wrong_keys_is_refused_key_by_key(tmp_path: Path, fault: str, named: str) -> None:
    content = published_content(random_network())
    break_published(content, fault)
    torch.save(content, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=named):
        read_published(tmp_path / "wrong.pth", SIZES)


class RunsCode:
    """What a hostile pickle looks like."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    evidence = tmp_path / "ran"
    torch.save({"encoder_dict": RunsCode(evidence)}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="more than plain tensors"):
        load_network(tmp_path / "hostile.pth", CPU, task="kits")
    assert not evidence.exists()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.3, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, converted: Path, compact: Path, share: float) -> None:
    published = write_published(random_network(), tmp_path / "whole.pth")
    for whole in (converted, compact, published):
        content = whole.read_bytes()
        part = tmp_path / f"part{whole.suffix}"
        part.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError):
            load_network(part, CPU, task="kits")


def test_a_published_checkpoint_without_its_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="trained for"):
        load_network(write_published(random_network(), tmp_path / "mine.pth"), CPU)
    with pytest.raises(UnknownModelError, match="brain"):
        load_network(tmp_path / "mine.pth", CPU, task="brain")


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "transformer"},
        {"sizes": {"widths": [10**9], "blocks": [1]}},
        {"sizes": {"widths": [12, 20], "blocks": [1, 1]}},
        {"sizes": {"widths": [16, 24], "blocks": [1, 10**4]}},
        {"sizes": {"widths": [16, 24], "blocks": [1]}},
        {"sizes": {"widths": "many"}},
        {"sizes": {}},
        {"sizes": None},
        {"spacings": []},
        {"spacings": [1.5, 0.75]},
        {"spacings": [float("nan")]},
        {"intensity": {"low": 1.0, "high": 0.0, "mean": 0.0, "std": 1.0}},
        {"intensity": {"low": 0.0, "high": 1.0, "mean": 0.0, "std": 0.0}},
        {"intensity": {"low": 0.0}},
        {"intensity": ["low"]},
        {"signed": "yes"},
        {"name": None},
        {"backbone_sha256": "../../etc"},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_hostile_description_is_refused(compact: Path, change: dict[str, Any]) -> None:
    header, tensors = read_safetensors(compact)
    content = {**json.loads(header[METADATA_KEY]), **change}
    save_file(tensors, compact, {METADATA_KEY: json.dumps(content)})
    with pytest.raises(CheckpointError):
        load_network(compact, CPU)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 100_000], ids=["empty", "null", "list", "bare", "deep"])
def test_a_description_that_is_no_description_is_refused(compact: Path, text: str) -> None:
    save_file(load_file(compact), compact, {METADATA_KEY: text})
    with pytest.raises(CheckpointError):
        load_network(compact, CPU)


def test_impossible_adapter_sizes_are_refused_before_anything_is_built(converted: Path) -> None:
    header, tensors = read_safetensors(converted)
    content = json.loads(header[METADATA_KEY])
    for change in ({"heads": 7}, {"depth": 10_000}, {"window": 5}, {"width": 2**40}, {"width": True}, {"colour": 1}):
        described = {**content, "sizes": {**content["sizes"], **change}}
        save_file(tensors, converted, {METADATA_KEY: json.dumps(described)})
        with pytest.raises(CheckpointError, match="sizes"):
            load_network(converted, CPU)


def test_a_header_of_impossible_length_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(CheckpointError, match="truncated"):
        load_network(path, CPU)


def test_weights_that_are_not_finite_are_refused(compact: Path) -> None:
    header, tensors = read_safetensors(compact)
    tensors["head.bias"][0] = float("inf")
    save_file(tensors, compact, header)
    with pytest.raises(CheckpointError, match=r"head\.bias"):
        load_network(compact, CPU)


def test_weights_too_large_for_float16_are_stored_as_bfloat16(tmp_path: Path) -> None:
    network = random_network()
    with torch.no_grad():
        network.decoder.cls.get_parameter("0.weight")[0] = 1e6
    path = tmp_path / "models" / "large.safetensors"
    save_adapter(network, DESCRIPTION, save_backbone(network, path.parent).stem, path)
    assert {value.dtype for value in load_file(path).values()} == {torch.bfloat16}
    stored = load_reduced(path).decoder.cls.get_parameter("0.weight")
    assert torch.allclose(stored, network.decoder.cls.get_parameter("0.weight"), rtol=2**-8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    network = random_network()
    with torch.no_grad():
        network.decoder.cls.get_parameter("0.weight")[0] = value
        network.encoder.get_parameter("blocks.1.mlp.lin1.weight")[0] = value
    with pytest.raises(CheckpointError, match=r"not finite \(decoder\.cls\.0\.weight\)"):
        save_adapter(network, DESCRIPTION, "0" * 64, tmp_path / "large.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite \(encoder\.blocks\.1\.mlp\.lin1\.weight\)"):
        save_backbone(network, tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_conversions_into_one_folder_do_not_write_into_each_others_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = random_network(), random_network(seed=5)
    written: list[Path] = []

    def write_while_another_does(*arguments: Any) -> None:
        write_safetensors(*arguments)
        if not written:
            written.append(arguments[0])
            written.append(save_backbone(second, tmp_path))

    monkeypatch.setattr(adapter_checkpoint, "write_safetensors", write_while_another_does)
    path = save_backbone(first, tmp_path)
    assert sorted(file.stem for file in tmp_path.iterdir()) == sorted((path.stem, written[1].stem))
    assert all(sha256_of(file) == file.stem for file in tmp_path.iterdir())


def test_frozen_weights_that_cannot_take_their_name_are_told_of_in_one_sentence(tmp_path: Path) -> None:
    network = random_network()
    path = save_backbone(network, tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ExportError, match=f"cannot be written into {tmp_path}"):
        save_backbone(network, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_conversion_of_a_file_that_is_not_there_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--task", "kits", "--out", str(tmp_path / "out")]
    assert main(["models", "convert", str(tmp_path / "missing.pth"), *where]) == 2
    assert f"There is no file {tmp_path / 'missing.pth'}" in capsys.readouterr().err
