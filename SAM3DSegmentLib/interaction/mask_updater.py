"""The mask updater: from a tumour's clicks to the mask in its segment, by an engine that nobody waits for."""

from __future__ import annotations

import time
from dataclasses import dataclass

import slicer

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import ScanError
from SAM3DSegmentLib.geometry import Volume, empty_mask
from SAM3DSegmentLib.interaction.display import ChangeView
from SAM3DSegmentLib.interaction.evaluator import Answer, Evaluator, Failure, Job, Ready
from SAM3DSegmentLib.interaction.hand_edits import start_digest
from SAM3DSegmentLib.interaction.snapshot import Snapshot, take_snapshot
from SAM3DSegmentLib.interaction.tumour import Tumour
from SAM3DSegmentLib.measure import Measurement
from SAM3DSegmentLib.scene.provenance import (
    Provenance,
    read_provenance,
    remove_provenance,
    write_provenance,
)
from SAM3DSegmentLib.scene.segment_writer import SegmentWriter

PROGRESS_AFTER = 0.3
"""Seconds that an evaluation may take before its progress is shown."""


PAINTED_MEANWHILE = "You painted while the mask was computed: what you painted stays, the next click goes on from it."


@dataclass(frozen=True)
class Updated:
    """A tumour's mask was written.

    Attributes:
        seconds: since its last click.
        device: that answered.
        limited: whether the object goes on where the mask ends.
        needless: whether the user has just made a click where the mask was right already.
        converted: whether the segment was brought to the volume's voxels for it, and lost by that.
    """

    tumour: Tumour
    measurement: Measurement
    seconds: float
    device: str
    limited: bool
    needless: bool
    converted: bool


class MaskUpdater:
    """Evaluates the newest clicks of each tumour and writes the answers that are still wanted.

    Attributes:
        changes_shown: whether what an answer changes is shown beside it.
    """

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self.changes_shown = False
        self._evaluator: Evaluator | None = None
        self._writer = SegmentWriter(scene)
        self._changes = ChangeView(scene)
        self._snapshots: dict[slicer.vtkMRMLVolumeNode, Snapshot] = {}
        self._jobs: dict[Tumour, Job] = {}
        self._waiting: dict[Tumour, None] = {}

    @property
    def has_engine(self) -> bool:
        return self._evaluator is not None

    @property
    def busy(self) -> bool:
        """Whether the engine loads a model, or works on an answer."""
        return self._evaluator is not None and self._evaluator.busy

    def use_engine(self, engine: Engine | None) -> None:
        """Answer by this engine from now on, also what has no answer yet, and end the one before.

        Where the same command started both, the process stays: it loads the other model, and keeps the present one if
        it cannot.

        Raises:
            ScanError: a volume cannot be segmented any more.
        """
        unanswered = [*self._waiting, *self._jobs]
        self._waiting, self._jobs = dict.fromkeys(unanswered), {}
        if engine and self._evaluator and self._evaluator.command == engine.command:
            self._evaluator.use_model(*engine.choice)
        else:
            if self._evaluator:
                self._evaluator.close()
            self._evaluator = Evaluator(engine) if engine else None
        if engine:
            self._update_all([waiting for waiting in unanswered if waiting.target.exists()])

    def _update_all(self, tumours: list[Tumour]) -> None:
        refusals = []
        for tumour in tumours:
            try:
                self.update(tumour)
            except ScanError as refusal:
                refusals.append(refusal)
        if refusals:
            raise refusals[0]

    def waits(self, tumour: Tumour) -> bool:
        """Whether its clicks wait for an engine."""
        return tumour in self._waiting

    def volume(self, volume_node: slicer.vtkMRMLVolumeNode) -> Volume:
        """The node's voxels; the same object until they change.

        Raises:
            ScanError: the node holds no voxels, or more than one number per voxel.
        """
        known = self._snapshots.get(volume_node)
        if not known or not known.is_current():
            known = self._snapshots[volume_node] = take_snapshot(volume_node)
        return known.volume

    def update(self, tumour: Tumour) -> None:
        """Ask for the mask of the tumour's clicks; what was asked for it before is called off.

        Without an include click the mask is cleared at once, and so is the record of how it was made.

        Raises:
            ScanError: the volume cannot be segmented any more.
        """
        self.forget(tumour)
        target, clicks = tumour.target, tumour.history.clicks
        if not any(click.include for click in clicks):
            if target.mask()[1].size:  # Else voxels beyond the volume, which no click has made, would go.
                self._writer.write_mask(target.segmentation_node, target.segment_id, target.volume_node, *empty_mask())
            remove_provenance(target.segmentation_node, target.segment_id)
            tumour.written()
            tumour.unmeasured = False
        elif self._evaluator:
            job = Job(tumour, self.volume(target.volume_node), clicks, tumour.start_of(clicks))
            self._jobs[tumour] = job
            self._evaluator.submit(job)
        else:
            self._waiting[tumour] = None

    def cancel(self, tumour: Tumour) -> bool:
        """Call off what the engine was asked for a tumour; whether there was anything."""
        if not self._jobs.pop(tumour, None):
            return False
        if self._evaluator:
            self._evaluator.cancel(tumour)
        return True

    def forget(self, tumour: Tumour) -> None:
        """Call off what was asked for a tumour, and what waits for an engine."""
        self._waiting.pop(tumour, None)
        self.cancel(tumour)

    def progress(self, tumour: Tumour) -> float | None:
        """The finished part of what the engine does for a tumour; None before it has taken `PROGRESS_AFTER`."""
        job = self._jobs.get(tumour)
        if job and self._evaluator and time.perf_counter() - job.submitted > PROGRESS_AFTER:
            return self._evaluator.fraction
        return None

    def poll(self) -> list[Ready | Updated | Failure]:
        """Write the answers that came; those for what is gone, changed, cancelled or superseded are dropped."""
        for volume_node in [node for node in self._snapshots if not node.GetScene()]:
            gone = self._snapshots.pop(volume_node)
            if self._evaluator:
                self._evaluator.forget(gone.volume)
        for tumour in [known for known in (*self._jobs, *self._waiting) if not known.target.exists()]:
            self.forget(tumour)
        news: list[Ready | Updated | Failure] = []
        for outcome in self._evaluator.outcomes() if self._evaluator else ():
            if isinstance(outcome, Answer):
                if self._jobs.get(outcome.job.tumour) is outcome.job:
                    news.append(self._write(outcome))
            elif isinstance(outcome, Ready) or not outcome.job or self._jobs.get(outcome.job.tumour) is outcome.job:
                news.append(outcome)
                if isinstance(outcome, Failure) and outcome.job:
                    del self._jobs[outcome.job.tumour]
        return news

    def forget_changes(self) -> None:
        """Take what the last click changed out of the views."""
        self._changes.clear()

    def close(self) -> None:
        """End the engine, and take our helpers out of the scene."""
        self.use_engine(None)
        self._waiting.clear()
        self._snapshots.clear()
        self._changes.clear()
        self._writer.close()

    def _write(self, answer: Answer) -> Updated | Failure:
        job, model, prediction = answer.job, answer.model, answer.prediction
        tumour, target = job.tumour, job.tumour.target
        del self._jobs[tumour]
        try:
            if self.volume(target.volume_node) is not job.volume:
                return Failure(job, "The volume changed while its tumour was segmented: click again.")
        except ScanError as error:
            return Failure(job, str(error))
        if tumour.is_painted():
            return Failure(job, PAINTED_MEANWHILE)
        if self.changes_shown:
            self._changes.show(target.volume_node, target.mask(), (prediction.box, prediction.mask))
        node, segment_id = target.segmentation_node, target.segment_id
        recorded = read_provenance(node, segment_id)
        converted = self._writer.write_mask(node, segment_id, target.volume_node, prediction.box, prediction.mask)
        written, start = tumour.written(), start_digest(job.start)
        record = Provenance(
            job.clicks,
            model.name,
            model.version,
            model.sha256,
            __version__,
            answer.device,
            start_sha256=start,
            mask_sha256="" if start else written,
        )
        write_provenance(node, segment_id, record)
        tumour.unmeasured = False
        seconds = time.perf_counter() - job.submitted
        answered = [known.clicks for known in (recorded, job.start) if known]
        needless = prediction.needless and job.clicks[:-1] in answered
        return Updated(tumour, answer.measurement, seconds, answer.device, prediction.limited, needless, converted)
