"""The click editor: changes of a tumour's clicks, and the mask and the figures that follow them."""

from __future__ import annotations

from collections.abc import Callable

from SAM3DSegmentLib.clicks import ClickHistory
from SAM3DSegmentLib.interaction.mask_updater import MaskUpdater
from SAM3DSegmentLib.interaction.status_board import StatusBoard
from SAM3DSegmentLib.interaction.tumour import Tumour
from SAM3DSegmentLib.measure import measure


class ClickEditor:
    """Where a change cannot be made, or not be answered, the board tells why and nothing is lost."""

    def __init__(self, updater: MaskUpdater, board: StatusBoard) -> None:
        self._updater = updater
        self._board = board

    def undo(self, tumour: Tumour) -> None:
        """Take the last change of clicks back; without one, what was painted stays."""
        if tumour.history.can_undo:
            self._edit(tumour, ClickHistory.undo)

    def redo(self, tumour: Tumour) -> None:
        """Make the last change that was taken back again."""
        if tumour.history.can_redo:
            self._edit(tumour, ClickHistory.redo)

    def remove_last(self, tumour: Tumour) -> None:
        """Remove the newest click."""
        newest = len(tumour.history.clicks) - 1
        if tumour.history.clicks:
            self._edit(tumour, lambda history: history.remove(newest))

    def clear(self, tumour: Tumour) -> None:
        """Remove every click, and the mask with them."""
        if tumour.history.clicks:
            self._edit(tumour, lambda history: history.change(()))

    def take_in(self, tumour: Tumour) -> None:
        """Act on what the user did to the clicks in the views, and to the mask."""
        if tumour.changed:
            tumour.changed = False
            with self._board.telling():
                tumour.take_in(self._updater.volume(tumour.target.volume_node))
                self._update(tumour)
        if tumour.unmeasured:
            tumour.unmeasured = False
            with self._board.telling():
                volume = self._updater.volume(tumour.target.volume_node)
                _, mask = tumour.target.mask()
                self._board.update(measurement=measure(volume, mask) if mask.size else None)

    def _edit(self, tumour: Tumour, change: Callable[[ClickHistory], None]) -> None:
        """Change its clicks; where undo or redo could not bring back what was painted, the user is told why instead."""
        with self._board.telling():
            tumour.keep_painted(self._updater.volume(tumour.target.volume_node))
            change(tumour.history)
            tumour.show_clicks()
            self._update(tumour)

    def _update(self, tumour: Tumour) -> None:
        """Have the mask follow the clicks."""
        self._updater.update(tumour)
        clicks = tumour.history.clicks
        has_object = any(click.include for click in clicks)
        if has_object and self._updater.has_engine:
            self._board.say("")
        elif not has_object:
            advice = "Click inside the tumour (include): exclude clicks alone name no object." if clicks else ""
            self._board.say(advice, measurement=None, seconds=None, progress=None)
