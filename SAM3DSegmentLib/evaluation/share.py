"""How an evaluation is shared out among processes that `torchrun` started together."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from SAM3DSegmentLib.evaluation.cases import Structure

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Share:
    """One process of `size`; the one of rank 0 writes the report."""

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Share:
        """What `RANK` and `WORLD_SIZE` say; a process without them is alone.

        Where there are several, each one's engine is shown the GPU of its own `LOCAL_RANK`: start one for each GPU.
        """
        share = cls(int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1)))
        if share.size > 1 and "LOCAL_RANK" in environment:
            local = environment["LOCAL_RANK"]
            visible = environment.get(VISIBLE_GPUS, "").split(",")
            environment[VISIBLE_GPUS] = visible[int(local) % len(visible)] or local
        return share

    def of(self, structures: Sequence[Structure]) -> list[Structure]:
        """The structures of this process: whole cases, so that a scan is read by one process only."""
        cases = list(dict.fromkeys(structure.case for structure in structures))
        own = set(cases[self.rank :: self.size])
        return [structure for structure in structures if structure.case in own]
