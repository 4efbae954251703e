"""3DSAM-adapter: every shortcut against the oracle, additions, training, and a scan segmented with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from SAM3DSegmentLib.cli import main
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.additions import prompt_volumes
from SAM3DSegmentLib.network.backbone import is_frozen
from SAM3DSegmentLib.network.convert import convert_published
from SAM3DSegmentLib.network.mask_decoder import convolve_one_channel, convolve_to_few, convolve_upsampled
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.sam_weights import untrained_network
from SAM3DSegmentLib.network.window_attention import shifted_regions, split_windows
from Testing import oracle
from Testing.doubles import ball_volume, middle
from Testing.reduced_network import (
    POINTS,
    SIZES,
    ignore,
    largest_difference,
    oracle_result,
    random_crop,
    random_network,
    sam_state,
    write_published,
)

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
TOLERANCE = 1e-4
INCLUDE = torch.ones(len(POINTS), dtype=torch.bool)


@torch.no_grad()
def test_features_and_logits_are_those_of_the_plain_evaluation() -> None:
    network, crop = random_network(), random_crop()
    expected = oracle_result(network, crop, POINTS)
    features = network.encoder(crop[None], 3, ignore)
    for feature, wanted in zip(features, expected.features, strict=True):
        assert largest_difference(feature[0], wanted) <= TOLERANCE
    logits = network.decode(network.encode(crop, 8, ignore), POINTS, INCLUDE, None)
    assert expected.logits.std() > 0.1
    assert largest_difference(logits, expected.logits) <= TOLERANCE


@torch.no_grad()
def test_a_later_click_on_a_kept_encoding_gives_what_a_fresh_evaluation_gives() -> None:
    network, crop = random_network(), random_crop()
    encoding = network.encode(crop, 8, ignore)
    network.decode(encoding, POINTS, INCLUDE, None)
    later = network.decode(encoding, POINTS[:1], INCLUDE[:1], None)
    assert largest_difference(later, oracle_result(network, crop, POINTS[:1]).logits) <= TOLERANCE


@torch.no_grad()
def test_one_convolution_is_upsampling_patch_embedding_and_depth_embedding_together() -> None:
    network, crop = random_network(), random_crop()
    tokens = network.encoder.stem(crop[None])[0]
    assert largest_difference(tokens, oracle.embed(network.encoder.state_dict(), crop)) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("shifted", [False, True])
def test_folded_attention_equals_attention_with_a_bias_for_every_pair(shifted: bool) -> None:
    attention = random_network().encoder.blocks[0].attn
    x = torch.randn(1, *(SIZES.tokens,) * 3, SIZES.width, generator=torch.Generator().manual_seed(1))
    windows = split_windows(x, SIZES.window)
    regions = shifted_regions(SIZES.tokens, SIZES.window, CPU) if shifted else None
    mask = oracle.shift_mask(SIZES.tokens, SIZES.window) if shifted else None
    expected = oracle.attention(attention.state_dict(), windows, SIZES.heads, SIZES.window, mask)
    assert largest_difference(attention(windows, attention.position_tables(), regions), expected) <= TOLERANCE


def test_regions_part_the_windows_as_the_published_masks_do() -> None:
    region = shifted_regions(32, 8, CPU).float()
    mask = -100 * (1 - region @ region.mT)
    assert torch.equal(mask, oracle.shift_mask(32, 8))


def test_the_upsampled_convolution_equals_upsampling_and_then_convolving() -> None:
    x, weight = torch.randn(2, 5, 6, 6, 6), torch.randn(37, 5, 3, 3, 3)
    upsampled = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
    assert largest_difference(convolve_upsampled(x, weight), F.conv3d(upsampled, weight, padding=1)) <= TOLERANCE


def test_the_convolution_to_few_channels_is_a_convolution() -> None:
    x, weight = torch.randn(2, 16, 6, 6, 6), torch.randn(2, 16, 3, 3, 3)
    assert largest_difference(convolve_to_few(x, weight), F.conv3d(x, weight, padding=1)) <= TOLERANCE


def test_the_convolution_of_one_channel_is_a_convolution() -> None:
    x, weight = torch.randn(2, 6, 6, 6), torch.randn(7, 3, 3, 3)
    expected = F.conv3d(x[:, None], weight[:, None], padding=1)
    assert largest_difference(convolve_one_channel(x, weight), expected) <= TOLERANCE


@torch.no_grad()
def test_each_crop_of_a_batch_is_answered_as_if_it_were_alone() -> None:
    encoder = random_network().encoder
    crops = torch.stack([random_crop(0), random_crop(1)])
    for together, alone in zip(encoder(crops, 3, ignore), encoder(crops[1:], 8, ignore), strict=True):
        assert largest_difference(together[1:], alone) <= TOLERANCE


@torch.no_grad()
def test_the_number_of_windows_at_once_changes_nothing() -> None:
    network, crop = random_network(), random_crop()
    one, all_at_once = (network.encode(crop, count, ignore).deepest for count in (1, 1000))
    assert largest_difference(one, all_at_once) <= 1e-5


@torch.no_grad()
def test_additions_change_nothing_before_they_are_trained() -> None:
    network, crop = random_network(), random_crop()
    encoding = network.encode(crop, 8, ignore)
    before = network.decode(encoding, POINTS, INCLUDE, None)
    network.add_additions()
    after = network.decode(encoding, POINTS, ~INCLUDE, torch.randn((SIZES.crop,) * 3))
    assert torch.equal(before, after)


def test_every_trained_part_learns_from_the_first_step() -> None:
    network = untrained_network(sam_state(), SIZES.window, SIZES.channels)
    network.add_additions()
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(not is_frozen(key) and not key.endswith(".lr"))
    encoding = network.encode(random_crop(), 8, ignore)
    logits = network.decode(encoding, POINTS, INCLUDE, torch.randn((SIZES.crop,) * 3))
    logits[1].square().mean().backward()
    # Behind weights that start at 0 the gradient arrives from the second step on; some weights are never used.
    later = ("adapter.linear1", "adapter.conv", "additions.volumes.0", "additions.head.reduce", "additions.head.mix")
    unused = ("cross_attn_token_to_image",)
    idle = [
        key
        for key, parameter in network.named_parameters()
        if parameter.requires_grad
        and not any(name in key for name in later + unused)
        and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not idle
    assert all(parameter.grad is None for key, parameter in network.named_parameters() if is_frozen(key))


def test_the_published_network_trains_25_million_parameters() -> None:
    with torch.device("meta"):
        network = SamAdapter(AdapterSizes())
    trained = sum(p.numel() for k, p in network.named_parameters() if not is_frozen(k) and not k.endswith(".lr"))
    assert trained / 1e6 == pytest.approx(25.46, abs=0.005)


@torch.no_grad()
def test_an_untrained_network_holds_sams_weights_and_adapters_that_do_nothing() -> None:
    sam = sam_state()
    network = untrained_network(sam, SIZES.window, SIZES.channels)
    block = network.encoder.blocks[3]
    assert network.sizes == SIZES
    assert torch.equal(block.attn.qkv.weight, sam["image_encoder.blocks.3.attn.qkv.weight"])
    assert torch.equal(block.norm2.bias, sam["image_encoder.blocks.3.norm2.bias"])
    mean = (sam["image_encoder.blocks.3.attn.rel_pos_h"] + sam["image_encoder.blocks.3.attn.rel_pos_w"]) / 2
    assert torch.equal(block.attn.rel_pos_d, mean)
    x = torch.randn(1, 4, 4, 4, SIZES.width)
    assert torch.equal(block.adapter(x), x)


def test_clicks_and_the_previous_answer_are_told_where_they_are() -> None:
    answer, include, exclude = prompt_volumes(
        torch.tensor([[2.0, 5.0, 7.0], [9.0, 1.0, 3.0]]), torch.tensor([True, False]), torch.full((12, 12, 12), 8.0), 12
    )[0]
    assert answer.unique().tolist() == [1.0]
    assert include.argmax() == torch.tensor([2, 5, 7]) @ torch.tensor([144, 12, 1]) and include.max() == 1
    assert exclude.argmax() == torch.tensor([9, 1, 3]) @ torch.tensor([144, 12, 1]) and exclude.max() == 1
    assert not prompt_volumes(torch.zeros(1, 3), torch.tensor([True]), None, 12)[0, [0, 2]].any()


def test_segment_anything_is_used_where_torchvision_cannot_be_imported() -> None:
    code = "import sys; sys.modules['torchvision'] = None; import SAM3DSegmentLib.network.sam_adapter"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_authors_checkpoint_becomes_a_model_that_segments_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM3DSEGMENT_MODELS", str(tmp_path / "models"))
    converted = convert_published(write_published(random_network(), tmp_path / "kits.pth"), "kits", tmp_path, SIZES)
    volume = ball_volume(10)
    image = nibabel.Nifti1Image(volume.voxels.T.astype(np.float32), volume.ijk_to_ras)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    out = tmp_path / "tumour.seg.nrrd"
    point = ",".join(f"{c:g}" for c in middle(volume))
    assert main(["models", "import", str(converted[0])]) == 0
    command = ["segment", str(tmp_path / "scan.nii.gz"), "--model", "kits", "--include", point, "--device", "cpu"]
    assert main([*command, "--out", str(out)]) == 0
    voxels, header = nrrd.read(str(out))
    assert voxels.any()
    assert sha256_of(tmp_path / "models" / "kits.safetensors") in header["Segment0_Tags"]
