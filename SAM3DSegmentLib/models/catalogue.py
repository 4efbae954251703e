"""The model catalogue: which models exist, where they come from, and under which terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from SAM3DSegmentLib.intensity import FixedWindow

Kind = Literal["compact", "sam-adapter", "sam-backbone"]

ADAPTER_CITATION = (
    "Gong et al., 3DSAM-adapter: Holistic adaptation of SAM from 2D to 3D for promptable tumor segmentation, "
    "Medical Image Analysis 98 (2024) 103324"
)
SAM_CITATION = "Kirillov et al., Segment Anything, ICCV 2023"
SAM_PACKAGES = (("torch", "segment-anything", "safetensors"),)
COMPACT_PACKAGES = (("onnxruntime", "safetensors"), ("torch", "safetensors"))


@dataclass(frozen=True)
class Model:
    """What the catalogue knows of a model, whether or not it is on this computer.

    Attributes:
        name: by which it is chosen.
        title: one line for a list.
        kind: its network: the compact one, an adapter and decoder on top of SAM, or SAM's own weights.
        file_name: of its checkpoint in the models folder.
        url: where it is downloaded from; None where it is bundled or has to be imported from a file.
        sha256: of its checkpoint, hexadecimal; None where the file is not fixed.
        size: of its checkpoint in bytes; None where the file is not fixed.
        licence: of the weights.
        citation: of the publication to cite.
        task: what it segments.
        packages: sets of Python packages, each of which suffices to run its network; the first is the smallest.
        window: how its crop is normalised; None where the checkpoint says it, or each crop's statistics are used.
    """

    name: str
    title: str
    kind: Kind
    file_name: str
    url: str | None
    sha256: str | None
    size: int | None
    licence: str
    citation: str
    task: str
    packages: tuple[tuple[str, ...], ...]
    window: FixedWindow | None


def published_adapter(name: str, task: str, window: FixedWindow) -> Model:
    """A checkpoint of the paper: behind a share page without direct links, so it is imported from a file."""
    return Model(
        name=name,
        title=f"3DSAM-adapter, {task}, as published",
        kind="sam-adapter",
        file_name=f"{name}.pth",
        url=None,
        sha256=None,
        size=None,
        licence="not stated by its authors",
        citation=ADAPTER_CITATION,
        task=task,
        packages=SAM_PACKAGES,
        window=window,
    )


COMPACT = Model(
    name="compact",
    title="Compact promptable 3D network, any lesion or organ in CT and MR",
    kind="compact",
    file_name="compact.safetensors",
    url=None,
    sha256=None,
    size=None,
    licence="Apache-2.0",
    citation="SAM3DSegment, model card in Resources/models",
    task="any object under the clicks",
    packages=COMPACT_PACKAGES,
    window=None,
)

SAM_VIT_B = Model(
    name="sam_vit_b",
    title="SAM ViT-B, to train adapters on, or slice by slice",
    kind="sam-backbone",
    file_name="sam_vit_b_01ec64.pth",
    url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
    sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    size=375_042_383,
    licence="Apache-2.0",
    citation=SAM_CITATION,
    task="backbone",
    packages=SAM_PACKAGES,
    window=None,
)

PUBLISHED_ADAPTERS = (
    published_adapter("kits", "kidney tumour in CT (KiTS21)", FixedWindow(-54, 247, 59.53867, 55.457336)),
    published_adapter("lits", "liver tumour in CT (LiTS17)", FixedWindow(-48, 163, 60.057533, 40.198017)),
    published_adapter("pancreas", "pancreas tumour in CT (MSD)", FixedWindow(-39, 204, 68.45214, 63.422806)),
    published_adapter("colon", "colon cancer in CT (MSD)", FixedWindow(-57, 175, 65.175035, 32.651197)),
)

TASKS = {model.name: model for model in PUBLISHED_ADAPTERS}
"""The published adapters by the task they are imported with."""

CATALOGUE = {model.name: model for model in (COMPACT, SAM_VIT_B, *PUBLISHED_ADAPTERS)}
