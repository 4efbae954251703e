"""The status board: the present status, and the one place where a refusal becomes a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.interaction.status import Status


class StatusBoard:
    """
    Attributes:
        status: what hosts show.
    """

    def __init__(self) -> None:
        self.status = Status()

    def say(self, message: str, failed: bool = False, **figures: object) -> None:
        """Replace the sentence that the user reads, and the figures that are given."""
        self.update(message=message, failed=failed, **figures)

    def update(self, **figures: object) -> None:
        """Replace the figures that are given; the sentence stays."""
        self.status = replace(self.status, **figures)  # type: ignore[arg-type]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Say what the user has to know of a `UserError` instead of raising it; what follows in the block is left."""
        try:
            yield
        except UserError as error:
            self.say(str(error), failed=True)
