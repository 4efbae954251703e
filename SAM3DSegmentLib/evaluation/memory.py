"""Peak memory of an answer: of this process, and of the engine processes that it started."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
"""Linux tells each process's memory here; other systems do not."""

OWN_FOLDER = "self"
FORGET_PEAK = "5"
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class PeakMemory:
    """The highest resident memory in bytes; None where the system does not tell.

    Attributes:
        own: of this process, scan and reference included, since `forget_own_peak`.
        engines: of all engine processes of this one together, since they started; None where there is none.
    """

    own: int | None
    engines: int | None


def forget_own_peak() -> None:
    """Let the peak of this process begin anew at what it holds now, where the system can."""
    with suppress(OSError):
        (PROCESSES / OWN_FOLDER / "clear_refs").write_text(FORGET_PEAK)


def peak_memory() -> PeakMemory:
    """The peaks up to now."""
    peaks = [peak_of(child) for child in children()]
    told = [peak for peak in peaks if peak is not None]
    return PeakMemory(peak_of(OWN_FOLDER), sum(told) if told else None)


def children() -> list[str]:
    """The numbers of the processes that this one started and that still run."""
    numbers: list[str] = []
    for threads_own in (PROCESSES / OWN_FOLDER / "task").glob("*/children"):
        with suppress(OSError):  # a thread may end meanwhile
            numbers += threads_own.read_text().split()
    return numbers


def peak_of(process: str) -> int | None:
    """The highest resident memory of a process in bytes; None where it is gone or the system does not tell."""
    try:
        found = PEAK.search((PROCESSES / process / "status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
