"""`python -m training export`: a run's best checkpoint to a file for the product, with its figures and its terms."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from SAM3DSegmentLib.errors import CaseError, CheckpointError
from SAM3DSegmentLib.evaluation.protocol import NSD_TOLERANCES
from SAM3DSegmentLib.evaluation.statistics import ALL, Summary
from SAM3DSegmentLib.models.store import sha256_of
from SAM3DSegmentLib.network.backbone import find_backbone
from SAM3DSegmentLib.network.checkpoint import load_network
from SAM3DSegmentLib.network.metadata import Metadata
from SAM3DSegmentLib.network.tensor_files import read_safetensors, write_safetensors
from training import configuration as configurations
from training.dataset import write_beside

BEST_FILE = "best.safetensors"
"""In the folder of a run, in the product's format; its frozen weights lie beside it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configurations.add_arguments(parser)
    parser.add_argument("--checkpoint", type=Path, help=f"by default {BEST_FILE} in the run's folder")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="summary.json of `python -m training evaluate`")
    parser.add_argument("--training-data", metavar="TEXT", help="what it learned from, with the citation")
    parser.add_argument("--licence", metavar="TEXT", help="of the weights")
    parser.add_argument("--version", help="of the model")
    parser.add_argument("--out", type=Path, help="by default NAME.safetensors in the run's folder")


def run(options: argparse.Namespace) -> None:
    """Export the checkpoint of a run, and say how the product gets it."""
    configuration = configurations.from_options(options)
    checkpoint = options.checkpoint or configuration.out / BEST_FILE
    out = options.out or configuration.out / f"{configuration.name}.safetensors"
    found = read_metadata(checkpoint)
    described = replace(
        found,
        name=out.stem,
        version=options.version or found.version,
        task=configuration.task,
        training_data=options.training_data or found.training_data,
        licence=options.licence or found.licence,
        metrics=read_figures(options.figures, checkpoint) if options.figures else found.metrics,
    )
    export(checkpoint, described, out)
    print(f"{out}\nTo click with it: sam3dsegment models import {out}")


def read_metadata(checkpoint: Path) -> Metadata:
    """What a checkpoint in the product's format says of itself.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"There is no checkpoint {checkpoint}: train first, or name one with --checkpoint.")
    return Metadata.from_header(read_safetensors(checkpoint)[0], str(checkpoint))


def export(checkpoint: Path, metadata: Metadata, out: Path) -> None:
    """Write a checkpoint with another description, and the frozen weights that it stands on beside it.

    Raises:
        CheckpointError: the checkpoint makes no network, or its frozen weights are not in its folder.
        ExportError: the folder of `out` cannot be written.
    """
    load_network(checkpoint, torch.device("cpu"))
    backbone = find_backbone(metadata.backbone_sha256, checkpoint.parent) if metadata.backbone_sha256 else None
    write_safetensors(out, metadata.to_header(), read_safetensors(checkpoint)[1])
    if backbone and not (out.parent / backbone.name).is_file():
        write_beside(out.parent / backbone.name, backbone.read_bytes())


def read_figures(file: Path, checkpoint: Path) -> dict[str, float]:
    """The figures of an evaluation, by user, measure and number of clicks: `centre_dice_1`, `noisy_nsd_2mm_3`.

    Args:
        file: the evaluation's `summary.json`.
        checkpoint: that was evaluated.

    Raises:
        CaseError: the file is no such summary, or of another model.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        sha256, model = content["sha256"], content["model"]
        summaries = [Summary.from_json(summary) for summary in content["methods"]]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise CaseError(
            f"{file} holds no figures ({error}): give the summary.json of `python -m training evaluate`."
        ) from error
    if sha256 != sha256_of(checkpoint):
        raise CaseError(f"The figures in {file} are not those of {checkpoint}: evaluate this checkpoint first.")
    figures = {}
    for summary in summaries:
        if summary.group == ALL and summary.method == model:
            for score in summary.scores:
                figures[f"{summary.user}_dice_{score.clicks}"] = score.dice.mean
                for tolerance, nsd in zip(NSD_TOLERANCES, score.nsd, strict=True):
                    figures[f"{summary.user}_nsd_{tolerance:.0f}mm_{score.clicks}"] = nsd.mean
    return {name: round(value, 4) for name, value in figures.items()}
