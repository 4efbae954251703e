"""What a segmenter knows already: its answers to earlier lists of clicks, and masks that were taken as such answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.field import Field
from SAM3DSegmentLib.geometry import BoolArray
from SAM3DSegmentLib.prediction import Prediction

FIELDS_KEPT = 64_000_000
"""Bytes of answers to earlier lists of clicks that are kept for undo and redo."""

STARTS_KEPT = 8
"""Masks to go on from that are kept."""

Clicks = tuple[Click, ...]


class KnownAnswers:
    """Answers by their lists of clicks; the latest ones, as many as fit."""

    def __init__(self) -> None:
        self._starts: OrderedDict[Clicks, tuple[Field, Prediction]] = OrderedDict()
        self._fields: OrderedDict[Clicks, Field] = OrderedDict()

    def beginning(self, clicks: Sequence[Click]) -> tuple[int, Field | None]:
        """How many of these clicks are answered already, and the answer to those."""
        started, known = longest_beginning(self._starts, clicks), longest_beginning(self._fields, clicks)
        if len(known) > len(started):
            self._fields.move_to_end(known)
            return len(known), self._fields[known]
        return len(started), self._starts[started][0] if started else None

    def keep(self, clicks: Clicks, field: Field) -> None:
        """Remember an answer."""
        self._fields[clicks] = field
        while len(self._fields) > 1 and sum(f.size for f in set(self._fields.values())) > FIELDS_KEPT:
            self._fields.popitem(last=False)

    def go_on_from_a_mask(self, clicks: Sequence[Click]) -> bool:
        """Whether a mask was taken as the answer to a beginning of these clicks."""
        return bool(longest_beginning(self._starts, clicks))

    def refresh(self, clicks: Clicks, mask: BoolArray) -> bool:
        """Whether just this mask is known as the answer to a list; it is kept for longer then."""
        known = clicks in self._starts and self._starts[clicks][1].mask is mask
        if known:
            self._starts.move_to_end(clicks)
        return known

    def take(self, clicks: Clicks, field: Field, prediction: Prediction) -> None:
        """Put a mask, and the field that stands for it, in the place of any answer to a list; what followed is void."""
        self._starts[clicks] = field, prediction
        self._starts.move_to_end(clicks)
        if len(self._starts) > STARTS_KEPT:
            self._starts.popitem(last=False)
        for later in [known for known in self._fields if known[: len(clicks)] == clicks]:
            del self._fields[later]

    def mask_behind(self, field: Field) -> Prediction | None:
        """The mask that a field stands for, where it was taken as an answer."""
        return next((prediction for start, prediction in self._starts.values() if start is field), None)


def longest_beginning(lists: Iterable[Clicks], clicks: Sequence[Click]) -> Clicks:
    """Of lists of clicks, the longest that `clicks` begin with; empty where there is none."""
    return max((known for known in lists if tuple(clicks[: len(known)]) == known), key=len, default=())
