"""The main job without a window: clicks on a scan become a segment of a scene, click by click, and a file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import NoIncludeClickError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.measure import Measurement, measure
from SAM3DSegmentLib.prediction import Prediction
from SAM3DSegmentLib.scene.application import boot_scene
from SAM3DSegmentLib.scene.click_nodes import open_click_lists, write_clicks
from SAM3DSegmentLib.scene.export import export_segmentation
from SAM3DSegmentLib.scene.provenance import Provenance, mask_digest, write_provenance
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter
from SAM3DSegmentLib.scene.segments import add_segment, create_segmentation
from SAM3DSegmentLib.scene.volumes import add_volume, volume_from_node
from SAM3DSegmentLib.segmenter import Segmenter

SEGMENT_COLOR = (0.86, 0.2, 0.18)


@dataclass(frozen=True, eq=False)
class Answer:
    """What one more click led to.

    Attributes:
        click: the click.
        seconds: from the click to the updated segment.
        prediction: for all clicks up to this one; None before the first include click.
        measurement: of its mask.
    """

    click: Click
    seconds: float
    prediction: Prediction | None
    measurement: Measurement


class HeadlessSession:
    """One scan in a scene, one segment, one engine.

    Args:
        volume: the scan; the scene holds a copy.
        name: of the segment.

    Raises:
        ScanError: the scan's voxels cannot be segmented.
    """

    def __init__(self, volume: Volume, engine: Engine, name: str = "tumour") -> None:
        scene = boot_scene()
        self._volume_node = add_volume(scene, volume, "scan")
        self._segmentation_node = create_segmentation(self._volume_node, "segmentation")
        self._segment_id = add_segment(self._segmentation_node, name, SEGMENT_COLOR)
        self._lists = open_click_lists(self._segmentation_node, self._segment_id, self._volume_node)
        self._writer = SegmentWriter(scene)
        self._engine = engine
        self.volume = volume_from_node(self._volume_node)
        self._segmenter = Segmenter(self.volume, engine)

    def answers(self, clicks: Sequence[Click]) -> Iterator[Answer]:
        """Make the clicks one after another; the segment follows each.

        Raises:
            NoIncludeClickError: none of them includes.
            UserError: the segmenter's.
        """
        if not any(click.include for click in clicks):
            raise NoIncludeClickError("There is no include click: name a point inside the tumour with --include.")
        for count in range(1, len(clicks) + 1):
            yield self.answer(clicks[:count])

    def answer(self, clicks: Sequence[Click]) -> Answer:
        """The segment for all the clicks so far, of which the last is new."""
        start = time.perf_counter()
        write_clicks(self._lists, self._volume_node, clicks)
        if not any(click.include for click in clicks):
            return Answer(clicks[-1], time.perf_counter() - start, None, Measurement(0.0, 0.0))
        prediction = self._segmenter.segment(clicks)
        self._writer.write_mask(
            self._segmentation_node, self._segment_id, self._volume_node, prediction.box, prediction.mask
        )
        model = self._engine.specification
        record = Provenance(
            tuple(clicks),
            model.name,
            model.version,
            model.sha256,
            __version__,
            self._engine.device,
            mask_sha256=mask_digest(prediction.box, prediction.mask),
        )
        write_provenance(self._segmentation_node, self._segment_id, record)
        seconds = time.perf_counter() - start
        return Answer(clicks[-1], seconds, prediction, measure(self.volume, prediction.mask))

    def export(self, path: Path) -> None:
        """Write the segment as `.seg.nrrd`, `.nrrd` or `.nii.gz`.

        Raises:
            ExportError: `path` cannot be written.
        """
        export_segmentation(self._segmentation_node, self._volume_node, path)

    def close(self) -> None:
        """Take the scan, the segment and its clicks out of the scene."""
        scene = self._volume_node.GetScene()
        self._writer.close()
        for node in (*self._lists, self._segmentation_node, self._volume_node):
            scene.RemoveNode(node)
