"""What a segmenter knows already: its answers to earlier lists of clicks, with the mask that each went on from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.field import Field
from SAM3DSegmentLib.start import Start

BYTES_KEPT = 64_000_000
"""Of answers to earlier lists of clicks, kept for undo and redo."""

Clicks = tuple[Click, ...]


class KnownAnswers:
    """Answers by their lists of clicks and the mask they went on from, if any; the latest ones, as many as fit."""

    def __init__(self) -> None:
        self._fields: OrderedDict[tuple[Start | None, Clicks], Field] = OrderedDict()

    def beginning(self, clicks: Sequence[Click], start: Start | None) -> tuple[int, Field | None]:
        """How many of these clicks are answered already, going on from that mask, and the answer to those."""
        answered = [known for own, known in self._fields if own is start and tuple(clicks[: len(known)]) == known]
        if not answered:
            return 0, None
        longest = start, max(answered, key=len)
        self._fields.move_to_end(longest)
        return len(longest[1]), self._fields[longest]

    def keep(self, clicks: Clicks, start: Start | None, field: Field) -> None:
        """Remember an answer."""
        self._fields[start, clicks] = field
        while len(self._fields) > 1 and self._bytes() > BYTES_KEPT:
            self._fields.popitem(last=False)

    def _bytes(self) -> int:
        starts = {start for start, _ in self._fields if start}
        return sum(field.size for field in self._fields.values()) + sum(start.mask.nbytes for start in starts)
