"""A published 3DSAM-adapter checkpoint: {"encoder_dict", "feature_dict": [4], "decoder_dict"} to a network."""

from __future__ import annotations

from pathlib import Path

import torch

from SAM3DSegmentLib.errors import CheckpointError
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.sam_adapter import SamAdapter
from SAM3DSegmentLib.network.tensor_files import check_tensors, read_torch_file, shapes_of

ATTENTION_MASK = ".attn_mask"
PROMPT_ENCODERS = 4
PUBLISHED_SIZES = AdapterSizes()


def read_published(path: Path, sizes: AdapterSizes = PUBLISHED_SIZES) -> SamAdapter:
    """The network of a published checkpoint.

    Four prompt encoders are stored and only the fourth is used; the attention masks follow from the shape. Both are
    checked by their keys, and left out.

    Raises:
        CheckpointError: the file is truncated, wants to run code, has missing, surplus or misshapen keys (each is
            named), or weights that are not finite.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict):
        content = {}
    encoder, prompts, decoder = (content.get(key) for key in ("encoder_dict", "feature_dict", "decoder_dict"))
    if not (
        isinstance(encoder, dict)
        and isinstance(decoder, dict)
        and isinstance(prompts, list)
        and len(prompts) == PROMPT_ENCODERS
        and all(isinstance(prompt, dict) for prompt in prompts)
    ):
        raise CheckpointError(
            f"{path} is no published 3DSAM-adapter checkpoint: "
            "choose a file with encoder_dict, feature_dict (of four) and decoder_dict."
        )
    with torch.device("meta"):
        network = SamAdapter(sizes)
    found = {f"encoder_dict.{key}": value for key, value in encoder.items()}
    found |= {f"feature_dict.{i}.{key}": value for i, prompt in enumerate(prompts) for key, value in prompt.items()}
    found |= {f"decoder_dict.{key}": value for key, value in decoder.items()}
    expected = {f"encoder_dict.{key}": shape for key, shape in shapes_of(network.encoder).items()}
    expected |= attention_masks(sizes)
    for i in range(PROMPT_ENCODERS):
        expected |= {f"feature_dict.{i}.{key}": shape for key, shape in shapes_of(network.prompt).items()}
    expected |= {f"decoder_dict.{key}": shape for key, shape in shapes_of(network.decoder).items()}
    check_tensors(found, expected, str(path))
    kept = {f"encoder.{key}": value for key, value in encoder.items() if not key.endswith(ATTENTION_MASK)}
    kept |= {f"prompt.{key}": value for key, value in prompts[-1].items()}
    kept |= {f"decoder.{key}": value for key, value in decoder.items()}
    # Copies: the file itself stays free to be replaced.
    network.load_state_dict({k: v.to(torch.float32, copy=True) for k, v in kept.items()}, assign=True)
    return network


def attention_masks(sizes: AdapterSizes) -> dict[str, tuple[int, ...]]:
    """Shapes of the masks that a published checkpoint stores with every shifted block."""
    windows, tokens = (sizes.tokens // sizes.window) ** 3, sizes.window**3
    return {f"encoder_dict.blocks.{i}{ATTENTION_MASK}": (windows, tokens, tokens) for i in range(0, sizes.depth, 2)}
