"""What the panel tells of the engine's news."""

from __future__ import annotations

from dataclasses import replace

from SAM3DSegmentLib.interaction.evaluator import Failure, Ready
from SAM3DSegmentLib.interaction.mask_updater import Updated
from SAM3DSegmentLib.interaction.status import Status
from SAM3DSegmentLib.interaction.tumour import Tumour

CPU = "cpu"
TOO_LARGE = "The object is too large for the model: the mask ends before it does."
NEEDLESS = "The mask is right at this click already, so nothing changed: click where it is wrong."
CONVERTED = "The segment was brought to the scan's voxels: finer detail, and what lay beyond the scan, is gone."
LEFT_THE_GPU = "The GPU's memory did not suffice: this network now runs on the CPU, which is slower."


def status_after(status: Status, news: Ready | Updated | Failure, shown: Tumour | None) -> Status:
    """The status once the news are taken in; a mask of another tumour than the one that is shown changes nothing.

    A mask that needs no words leaves what was said since its click: that another model could not be loaded, say.
    """
    if isinstance(news, Ready):
        return replace(status, device=news.device)
    if isinstance(news, Failure):
        return replace(status, message=news.message, failed=True, progress=None)
    if news.tumour is not shown:
        return status
    if news.device == CPU and status.device not in ("", CPU):
        status = replace(status, message=LEFT_THE_GPU, failed=False)
    elif news.converted:
        status = replace(status, message=CONVERTED, failed=False)
    elif news.limited:
        status = replace(status, message=TOO_LARGE, failed=False)
    elif news.needless and not status.failed:
        status = replace(status, message=NEEDLESS, failed=False)
    return replace(status, measurement=news.measurement, seconds=news.seconds, device=news.device, progress=None)
