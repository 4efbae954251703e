"""Damaged files in great numbers: scans, checkpoints and what lies beside them, mutated byte by byte, and loaded.

    python -m Testing.mutations KIND FIRST COUNT FOLDER

loads the mutants FIRST to FIRST + COUNT of a KIND in this process, within a limit on its memory, and prints for each
what came of it; a crash or a hang is seen by the process that started this one (`outcomes_of`).
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.scan import read_scan

ROOT = Path(__file__).resolve().parents[1]
MEMORY_LIMIT = 512 << 20
"""Bytes that loading a mutant of a few kilobytes may take beyond what the libraries take."""

SECONDS_LIMIT = 20.0
"""For one mutant; beyond it the loader counts as hung."""

INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"9" * 12, b"-1", b"\n", b" ", b"nan", b"{", b'"', b"[" * 50, b"1e999")
NUMBERS = (0, 1, -1, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31))


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, inserted, removed, doubled, or the rest cut off; half of the time near the beginning."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 352)
        at = rng.randrange(max(reach, 1))
        act = rng.randrange(7)
        if act == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif act == 1:
            data[at:at] = rng.choice(INTERESTING)
        elif act == 2:
            del data[at : at + rng.randrange(1, 16)]
        elif act == 3:
            data[at:at] = data[at : at + rng.randrange(1, 64)]
        elif act == 4:
            del data[at:]
        elif act == 5:
            size = rng.choice((2, 4))
            number = rng.choice(NUMBERS) & (256**size - 1)
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        else:
            value = rng.choice(INTERESTING)
            data[at : at + len(value)] = value
    return bytes(data)


def original_scan(kind: str, folder: Path) -> bytes:
    """A small file of the kind."""
    voxels = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    path = folder / f"original.{kind}"
    if kind.startswith("nii"):
        nibabel.save(nibabel.Nifti1Image(voxels.T, np.diag([-0.8, -0.8, 2.0, 1.0])), path)
    else:
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing((0.8, 0.8, 2.0))
        SimpleITK.WriteImage(image, str(path), useCompression=kind == "nrrd")
    return path.read_bytes()


def original_checkpoint() -> bytes:
    """The smallest compact network, in our format."""
    import torch

    from SAM3DSegmentLib.intensity import CropStatistics
    from SAM3DSegmentLib.network.compact import CompactNetwork
    from SAM3DSegmentLib.network.compact_predictor import save_compact
    from SAM3DSegmentLib.network.metadata import Metadata

    torch.manual_seed(0)
    metadata = Metadata("tiny", "1", "any", CropStatistics(), (1.0, 2.0), signed=True, antialias=True)
    path = Path(sys.argv[4]) / "tiny.safetensors"
    save_compact(CompactNetwork((8, 8), (1, 1)), metadata, path)
    return path.read_bytes()


def load_checkpoint(path: Path) -> None:
    import torch

    from SAM3DSegmentLib.network.checkpoint import load_network

    load_network(path, torch.device("cpu"))


def load_manifest(path: Path) -> None:
    from SAM3DSegmentLib.models.store import task_of

    task_of(path.with_suffix(".pth"))


def prepare(kind: str, folder: Path) -> tuple[bytes, Callable[[Path], object]]:
    """The original of a kind, and what loads one."""
    if kind == "safetensors":
        return original_checkpoint(), load_checkpoint
    if kind == "json":
        return json.dumps({"task": "kits", "source": "model.pth", "sha256": "0" * 64}).encode(), load_manifest
    return original_scan(kind, folder), read_scan


def load_mutants(kind: str, first: int, count: int, folder: Path) -> None:
    """Load them one after another; a line for each: its number, what came of it, and the seconds that it took."""
    original, load = prepare(kind, folder)
    plain = gzip.decompress(original) if kind == "nii.gz" else None
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address_space + MEMORY_LIMIT,) * 2)
    for seed in range(first, first + count):
        rng = random.Random(f"{kind} {seed}")
        inside = plain is not None and rng.random() < 0.7
        content = gzip.compress(mutated(plain, rng), 1) if inside and plain else mutated(original, rng)
        path = folder / f"mutant.{kind}"
        path.write_bytes(content)
        print(seed, end=" ", flush=True)
        start = time.monotonic()
        try:
            load(path)
            outcome = "read"
        except UserError as error:
            outcome = type(error).__name__
        except Exception as error:  # what the fuzzing is for
            outcome = f"WRONG:{type(error).__name__}:{error}".replace("\n", " ").replace(" ", "_")
        print(outcome, f"{time.monotonic() - start:.3f}", flush=True)


def outcomes_of(kind: str, count: int, folder: Path, batch: int = 500) -> Counter[str]:
    """How often each outcome came of the first `count` mutants of a kind; CRASH and HANG are outcomes too."""
    outcomes: Counter[str] = Counter()
    done = 0
    while done < count:
        take = min(batch, count - done)
        command = [sys.executable, "-m", "Testing.mutations", kind, str(done), str(take), str(folder)]
        try:
            result = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_LIMIT * 6 + take, check=False
            )
            output, ending = result.stdout, f"CRASH {result.returncode}: {result.stderr[-300:]}"
        except subprocess.TimeoutExpired as expired:
            output, ending = (expired.stdout or b"").decode(), "HANG"
        lines = [line.split() for line in output.splitlines()]
        finished = [line for line in lines if len(line) == 3]
        outcomes.update(outcome for _, outcome, _ in finished)
        outcomes["SLOW"] += sum(float(seconds) > SECONDS_LIMIT for _, _, seconds in finished)
        done += len(finished)
        if len(finished) < take:
            outcomes[f"{ending} at mutant {done}"] += 1
            done += 1
    return +outcomes


def wrong(outcomes: Counter[str]) -> list[str]:
    """The outcomes that must not be."""
    return [outcome for outcome in outcomes if outcome.startswith(("WRONG", "CRASH", "HANG", "SLOW"))]


if __name__ == "__main__":
    load_mutants(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
