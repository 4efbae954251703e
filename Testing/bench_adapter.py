"""3DSAM-adapter at full size against the oracle, each in its own process: `python -m Testing.benchmarks sam-adapter`.

python -m Testing.bench_adapter ours | oracle | converted FOLDER     (FOLDER holds A.pth.tar and A_crop.npy)
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"
LATER_CLICKS = 5


def sam_adapter() -> None:
    """First click, later click and peak memory of the engine's network, as ratios to the oracle's in the same run."""
    if not GOLDEN.is_dir():
        print("sam-adapter       not measured: ../shared/golden is absent")
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(GOLDEN / "make_checkpoint.py"), "A", folder], check=True)
        oracle, ours, converted = (measured(kind, folder) for kind in ("oracle", "ours", "converted"))
    for name in ("first", "later", "memory"):
        unit = "GB" if name == "memory" else "s"
        print(
            f"sam-adapter       {name:<7} ours {ours[name]:.2f} {unit}, oracle {oracle[name]:.2f} {unit}, "
            f"oracle / ours {oracle[name] / ours[name]:.1f}"
        )
    print(f"sam-adapter       loading a converted checkpoint {converted['load']:.2f} s")


def measured(kind: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "Testing.bench_adapter", kind, folder]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def main(kind: str, folder: Path) -> None:
    import resource

    import torch

    torch.set_num_threads(2)
    crop = torch.from_numpy(np.load(folder / "A_crop.npy"))
    figures = {"oracle": time_oracle, "ours": time_ours, "converted": time_loading}[kind](folder, crop)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**figures, "memory": memory}))


def time_oracle(folder: Path, crop) -> dict[str, float]:
    """A click costs the oracle a whole evaluation, the first and every later one."""
    import torch

    from Testing import oracle

    content = torch.load(folder / "A.pth.tar", weights_only=True, mmap=True)
    points = torch.tensor([[64.0, 64.0, 64.0]])
    start = time.perf_counter()
    oracle.evaluate(
        content["encoder_dict"], content["feature_dict"][3], content["decoder_dict"], crop, points, heads=12, window=8
    )
    seconds = time.perf_counter() - start
    return {"first": seconds, "later": seconds}


def time_ours(folder: Path, crop) -> dict[str, float]:
    import torch

    from SAM3DSegmentLib.network.checkpoint import load_network
    from SAM3DSegmentLib.network.interface import CropClick

    network = load_network(folder / "A.pth.tar", torch.device("cpu"), "kits")
    clicks = [CropClick((64.0, 64.0, 64.0), True)]
    start = time.perf_counter()
    encoding = network.encode(crop, lambda fraction: None)
    network.decode(encoding, clicks, None, lambda fraction: None)
    first = time.perf_counter() - start
    later = []
    for number in range(LATER_CLICKS):
        clicks.append(CropClick((60.0 + number, 64.0, 60.0), True))
        start = time.perf_counter()
        network.decode(encoding, clicks, None, lambda fraction: None)
        later.append(time.perf_counter() - start)
    return {"first": first, "later": statistics.median(later)}


def time_loading(folder: Path, crop) -> dict[str, float]:
    import torch

    from SAM3DSegmentLib.network.checkpoint import load_network
    from SAM3DSegmentLib.network.convert import convert_published

    adapter, _ = convert_published(folder / "A.pth.tar", "kits", folder)
    start = time.perf_counter()
    load_network(adapter, torch.device("cpu"))
    return {"load": time.perf_counter() - start}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
