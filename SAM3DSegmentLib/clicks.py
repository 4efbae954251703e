"""A click, and the list of clicks that a user makes, takes back and makes again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Click:
    """A point that the segmented object must hold (include) or must not hold (exclude).

    Attributes:
        ras: position in mm, in the RAS system of the volume (before its parent transform).
        include: True for an include click.
    """

    ras: tuple[float, float, float]
    include: bool = True


@dataclass
class ClickHistory:
    """The ordered clicks of one segment, with undo and redo of every change to them.

    Adding, moving, removing and clearing are changes alike; a new change after an undo drops what could be redone.
    """

    clicks: tuple[Click, ...] = ()
    _past: list[tuple[Click, ...]] = field(default_factory=list)
    _future: list[tuple[Click, ...]] = field(default_factory=list)

    def change(self, clicks: Sequence[Click]) -> None:
        """Make `clicks` the current list; no change, no step to undo."""
        changed = tuple(clicks)
        if changed == self.clicks:
            return
        self._past.append(self.clicks)
        self._future.clear()
        self.clicks = changed

    def restate(self, clicks: Sequence[Click]) -> None:
        """Put the current state into other words: no step to undo."""
        self.clicks = tuple(clicks)

    def remove(self, index: int) -> None:
        self.change((*self.clicks[:index], *self.clicks[index + 1 :]))

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    def undo(self) -> None:
        """Take the last change back; nothing happens where there is none."""
        if self._past:
            self._future.append(self.clicks)
            self.clicks = self._past.pop()

    def redo(self) -> None:
        """Make the last change that was taken back again; nothing happens where there is none."""
        if self._future:
            self._past.append(self.clicks)
            self.clicks = self._future.pop()
