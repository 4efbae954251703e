"""The ledger of an evaluation: every finished trial as a line of JSON, so that it goes on where it stopped.

Each process writes a file of its own, `trials-<rank>.jsonl`, and reads those of all.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.errors import ExportError
from SAM3DSegmentLib.evaluation.cases import Structure
from SAM3DSegmentLib.evaluation.memory import PeakMemory
from SAM3DSegmentLib.evaluation.protocol import Step, Trial, User
from SAM3DSegmentLib.geometry import BoolArray, Box


@dataclass(frozen=True)
class Task:
    """What one trial depends on.

    Attributes:
        method: its name in the report.
        identity: of the very method: a model's SHA-256 with version and device, or the program's version for a rival.
        data: SHA-256 of the scan and of its label map.
        count: clicks allowed.
    """

    method: str
    identity: str
    data: str
    structure: Structure
    user: User
    count: int


@dataclass(frozen=True)
class Ledger:
    """Finished trials in `folder`, of which this process adds those of `rank`."""

    folder: Path
    rank: int = 0

    @property
    def own_file(self) -> Path:
        return self.folder / f"trials-{self.rank}.jsonl"

    def add(self, task: Task, trial: Trial) -> None:
        """Write down a finished trial.

        Raises:
            ExportError: the folder cannot be written.
        """
        line = json.dumps({"task": asdict(task), **to_json(trial)}) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.own_file.open("a+b") as file:
                if file.tell():
                    file.seek(-1, 2)
                    # A process that was killed may have left half a line.
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode())
        except OSError as error:
            raise ExportError(
                f"Results cannot be written to {self.folder} ({error.strerror}): choose another folder, or make room."
            ) from error

    def trials(self) -> dict[Task, Trial]:
        """The finished trials of all processes."""
        return dict(entry for path in sorted(self.folder.glob("trials-*.jsonl")) for entry in entries(path))


def entries(path: Path) -> Iterator[tuple[Task, Trial]]:
    """The trials in a file; half a line, or one of an earlier version, is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
            task = content["task"]
            task = Task(**{**task, "structure": Structure(**task["structure"]), "user": User(**task["user"])})
            trial = from_json(content, task)
        except (ValueError, TypeError, LookupError):
            continue
        yield task, trial


def to_json(trial: Trial) -> dict[str, Any]:
    """What a task leaves open: clicks, steps, and the last answer as packed bits."""
    bits = zlib.compress(np.packbits(trial.mask).tobytes())
    return {
        "clicks": [asdict(click) for click in trial.clicks],
        "steps": [asdict(step) for step in trial.steps],
        "box": [[b.start, b.stop] for b in trial.box],
        "mask": base64.b64encode(bits).decode(),
    }


def from_json(content: dict[str, Any], task: Task) -> Trial:
    """The trial of a line."""
    clicks = tuple(Click(tuple(click["ras"]), click["include"]) for click in content["clicks"])
    steps = tuple(
        Step(**{**step, "nsd": tuple(step["nsd"]), "memory": PeakMemory(**step["memory"])}) for step in content["steps"]
    )
    k, j, i = (slice(start, stop) for start, stop in content["box"])
    return Trial(task.method, task.structure, task.user, clicks, steps, (k, j, i), unpacked(content["mask"], (k, j, i)))


def unpacked(text: str, box: Box) -> BoolArray:
    """The mask [k, j, i] of a box."""
    shape = [b.stop - b.start for b in box]
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=prod(shape)).reshape(shape).astype(bool)
