"""A saved segmentation made again from its own tags, and compared with what the file holds.

with Recording(path, scan) as recording:
    for segment, outcome in replay_all(recording):
        print(segment.name, outcome)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import slicer

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import ReplayError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.measure import dice
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.provenance import Provenance, mask_digest, read_provenance
from SAM3DSegmentLib.scene.segmentation_file import load_segmentation
from SAM3DSegmentLib.scene.segments import read_mask, read_mask_on_own_grid
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from SAM3DSegmentLib.segmenter import Segmenter

CHANGED = "the mask was changed after its clicks"


@dataclass(frozen=True)
class RecordedSegment:
    """A segment of a file.

    Attributes:
        provenance: None where it was not made by this project.
        mask_sha256: of its mask as it is now.
    """

    segment_id: str
    name: str
    provenance: Provenance | None
    mask_sha256: str

    @property
    def as_recorded(self) -> bool | None:
        """Whether its mask is, on the same grid, the one that its clicks made; None where the record does not tell."""
        recorded = self.provenance.mask_sha256 if self.provenance else ""
        return recorded == self.mask_sha256 if recorded else None

    def lines(self) -> list[str]:
        """What the tags say, for people."""
        made = self.provenance
        if made is None:
            return ["no record of clicks: not made by SAM3DSegment"]
        return [
            f"model {made.model} {made.model_version} (SHA-256 {made.model_sha256})",
            f"software {made.software_version}, device {made.device or 'not recorded'}",
            *([f"started from a mask (SHA-256 {made.start_sha256})"] if made.start_sha256 else []),
            *([f"{CHANGED}, or resampled when it was saved"] if self.as_recorded is False else []),
            *(f"{n}. {sign(click)} at R, A, S = {position(click)} mm" for n, click in enumerate(made.clicks, 1)),
        ]

    def as_json(self) -> dict[str, Any]:
        """What the tags say, for programs."""
        made = asdict(self.provenance) if self.provenance else None
        return {"segment": self.name, "provenance": made, "mask_as_recorded": self.as_recorded}


def sign(click: Click) -> str:
    return "include" if click.include else "exclude"


def position(click: Click) -> str:
    return ", ".join(f"{c:.2f}" for c in click.ras)


@dataclass(frozen=True)
class Outcome:
    """What a replay led to.

    Attributes:
        equal: every voxel is the same.
        dice: overlap of the file's mask with the new one, 1 where both are empty.
        reasons: what may explain a difference.
    """

    equal: bool
    dice: float
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        if self.equal:
            return "equal"
        reasons = self.reasons or (f"{CHANGED}, or made on another scan",)
        return f"differs, Dice {self.dice:.4f}: {'; '.join(reasons)}"


def recorded_segments(segmentation_node: slicer.vtkMRMLSegmentationNode) -> list[RecordedSegment]:
    """All segments of a segmentation with what their tags say."""
    segmentation = segmentation_node.GetSegmentation()
    return [
        RecordedSegment(
            segment_id,
            segmentation.GetSegment(segment_id).GetName(),
            read_provenance(segmentation_node, segment_id),
            mask_digest(*read_mask_on_own_grid(segmentation_node, segment_id)),
        )
        for segment_id in segmentation.GetSegmentIDs()
    ]


def read_records(path: Path) -> list[RecordedSegment]:
    """The segments of a file with what their tags say.

    Raises:
        ScanError: the file cannot be read.
    """
    scene = boot_scene()
    node = load_segmentation(scene, path)
    try:
        return recorded_segments(node)
    finally:
        scene.RemoveNode(node)


class Recording:
    """A segmentation file over the scan that it was made on, in a scene; a context manager.

    Raises:
        ScanError: the file or the scan cannot be used.
    """

    def __init__(self, path: Path, scan: Volume) -> None:
        self._scene = boot_scene()
        self._segmentation_node = load_segmentation(self._scene, path)
        self._volume_node = add_volume(self._scene, scan, "scan")
        self.volume = volume_from_node(self._volume_node)
        self.segments = recorded_segments(self._segmentation_node)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        for node in (self._segmentation_node, self._volume_node):
            self._scene.RemoveNode(node)

    def replay(self, segment: RecordedSegment, engine: Engine) -> Outcome:
        """Evaluate the recorded clicks with the engine's network and compare with the file's mask.

        Raises:
            ReplayError: the segment carries no clicks, or was started from a mask that the file does not hold.
            UserError: the segmenter's, for example where a click lies outside this scan.
        """
        provenance = segment.provenance
        if provenance is None:
            raise ReplayError(f"{segment.name} carries no clicks of this project: there is nothing to replay.")
        if provenance.start_sha256:
            raise ReplayError(
                f"{segment.name} was started from a loaded or painted mask, which the file does not hold: "
                "its clicks alone do not make it again."
            )
        prediction = Segmenter(self.volume, engine).segment(provenance.clicks)
        box, mask = read_mask(self._segmentation_node, segment.segment_id, self._volume_node)
        saved = self.volume.voxels.shape
        whole = prediction.mask_on(saved)
        equal = bool(whole.sum() == mask.sum() and (whole[box] == mask).all())
        kept = segment.as_recorded is not False or mask_digest(box, mask) == provenance.mask_sha256
        changed = () if equal or kept else (f"{CHANGED}, or resampled when it was saved",)
        return Outcome(equal, dice(mask, box, whole), (*differences(provenance, engine), *changed))


def replay_all(
    recording: Recording, model: str | None = None, device: str = "auto"
) -> list[tuple[RecordedSegment, Outcome]]:
    """Replay every segment that carries clicks; each with its own recorded model where `model` names none.

    Raises:
        ReplayError: no segment carries clicks, or one cannot be replayed.
        UserError: a recorded model is not on this computer; a click lies outside the scan; the engine's.
    """
    segments = [segment for segment in recording.segments if segment.provenance]
    if not segments:
        raise ReplayError("No segment of the file carries clicks of this project: there is nothing to replay.")
    replayed = []
    for name in dict.fromkeys(model or made.model for segment in segments if (made := segment.provenance)):
        with Engine(name, device) as engine:
            replayed += [
                (segment, recording.replay(segment, engine))
                for segment in segments
                if segment.provenance and name == (model or segment.provenance.model)
            ]
    return replayed


def differences(provenance: Provenance, engine: Engine) -> tuple[str, ...]:
    """In which ways this run is not the one that made the segment, a phrase for each."""
    model = engine.specification
    made_with = (
        ("model", f"{provenance.model} {provenance.model_version}", f"{model.name} {model.version}"),
        ("checkpoint", provenance.model_sha256[:12], model.sha256[:12]),
        ("software version", provenance.software_version, __version__),
        ("device", provenance.device or "unknown", engine.device),
    )
    return tuple(f"{what} {then} then, {now} now" for what, then, now in made_with if then != now)
