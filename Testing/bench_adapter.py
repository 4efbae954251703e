"""3DSAM-adapter at full size against the oracle, each in its own process: `python -m Testing.benchmarks sam-adapter`.

python -m Testing.bench_adapter KIND FOLDER     (oracle, ours, gpu, converted, precision or end-to-end; FOLDER holds
    A.pth.tar and A_crop.npy, as ../shared/golden/make_checkpoint.py writes them)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"
SCAN = ROOT.parent / "shared" / "data" / "test" / "STS_003_CT_image.nii.gz"
TUMOUR = "ijk:76,67,26"
"""A voxel in the labelled tumour of that scan."""

LATER_CLICKS = 5


def sam_adapter() -> None:
    """First click, later click and peak memory of the engine's network, as ratios to the oracle's in the same run."""
    if not GOLDEN.is_dir():
        print("sam-adapter       not measured: ../shared/golden is absent")
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(GOLDEN / "make_checkpoint.py"), "A", folder], check=True)
        oracle, ours, converted = (measured(kind, folder) for kind in ("oracle", "ours", "converted"))
        on_gpu = measured("gpu", folder) if gpu_name() else {}
        precision = measured("precision", folder) if half_precision_is_fast() else {}
    precision.pop("memory", None)
    for name in ("first", "later", "memory"):
        unit = "GB" if name == "memory" else "s"
        print(
            f"sam-adapter       {name:<7} ours {ours[name]:.2f} {unit}, oracle {oracle[name]:.2f} {unit}, "
            f"oracle / ours {oracle[name] / ours[name]:.1f}"
        )
    print(f"sam-adapter       ours / oracle, peak memory {ours['memory'] / oracle['memory']:.0%}")
    if on_gpu:
        peak = f", peak GPU memory {on_gpu['gpu memory']:.2f} GB" if "gpu memory" in on_gpu else ""
        clicks = ", ".join(
            f"{name} {1000 * on_gpu[name]:.1f} ms (oracle on the CPU / ours {oracle[name] / on_gpu[name]:.0f})"
            for name in ("first", "later")
        )
        print(f"sam-adapter       on {gpu_name()}: {clicks}{peak}")
    else:
        print("sam-adapter       on a GPU: unmeasured (none here)")
    print(
        f"sam-adapter       loading a converted checkpoint {converted['load']:.2f} s, "
        f"switching the engine to another task on its backbone {converted['switch']:.2f} s"
    )
    for name in precision:
        print(f"sam-adapter       Dice of half precision with float32 on {name} {precision[name]:.4f}")
    if not precision:
        print("sam-adapter       half precision not measured: no device here is fast at it (see KIND precision)")


def gpu_name() -> str | None:
    """Of the GPU that "auto" chooses; None where it chooses the processor."""
    import torch

    from SAM3DSegmentLib.network.device import choose_device

    device = choose_device("auto")
    if device.type == "cpu":
        return None
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def half_precision_is_fast() -> bool:
    from SAM3DSegmentLib.network.adapter_predictor import compute_dtype
    from SAM3DSegmentLib.network.device import choose_device

    return compute_dtype(choose_device("auto")) is not None


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
    kinds = {
        "oracle": time_oracle,
        "ours": time_ours,
        "gpu": time_on_gpu,
        "converted": time_loading,
        "precision": compare_precision,
        "end-to-end": time_end_to_end,
    }
    figures = kinds[kind](folder, crop)
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

    return time_clicks(load_network(folder / "A.pth.tar", torch.device("cpu"), "kits"), crop)


def time_on_gpu(folder: Path, crop) -> dict[str, float]:
    """A click on the device that "auto" chooses, warm, and the most that it held, in GB, where it is CUDA."""
    import torch

    from SAM3DSegmentLib.network.checkpoint import load_network
    from SAM3DSegmentLib.network.device import choose_device

    device = choose_device("auto")
    network = load_network(folder / "A.pth.tar", device, "kits")
    # Kernels are loaded and chosen with the first crop: an engine in use has them.
    time_clicks(network, crop.flip(0))
    if device.type != "cuda":
        return time_clicks(network, crop)
    torch.cuda.reset_peak_memory_stats(device)
    return {**time_clicks(network, crop), "gpu memory": torch.cuda.max_memory_allocated(device) / 1e9}


def time_clicks(network, crop) -> dict[str, float]:
    """Seconds of a first click in a crop, encoding included, and the median of the later ones; answers in memory."""
    from SAM3DSegmentLib.network.interface import CropClick

    clicks = [CropClick((64.0, 64.0, 64.0), True)]
    start = time.perf_counter()
    encoding = network.encode(crop, lambda fraction: None)
    network.decode(encoding, clicks, None, lambda fraction: None).cpu()
    first = time.perf_counter() - start
    later = []
    for number in range(LATER_CLICKS):
        clicks.append(CropClick((60.0 + number, 64.0, 60.0), True))
        start = time.perf_counter()
        network.decode(encoding, clicks, None, lambda fraction: None).cpu()
        later.append(time.perf_counter() - start)
    return {"first": first, "later": statistics.median(later)}


def time_loading(folder: Path, crop) -> dict[str, float]:
    """A converted checkpoint in this process, and the product's way from it to another task: the engine's `load`."""
    import torch

    from SAM3DSegmentLib.engine.client import Engine
    from SAM3DSegmentLib.network.checkpoint import load_network
    from SAM3DSegmentLib.network.convert import convert_published

    kits, lits = (convert_published(folder / "A.pth.tar", task, folder)[0] for task in ("kits", "lits"))
    start = time.perf_counter()
    load_network(kits, torch.device("cpu"))
    load = time.perf_counter() - start
    with Engine(str(kits), "cpu") as engine:
        _ = engine.specification
        start = time.perf_counter()
        engine.load(str(lits), "cpu")
        switch = time.perf_counter() - start
    return {"load": load, "switch": switch}


def compare_precision(folder: Path, crop) -> dict[str, float]:
    """Dice of half precision with float32 on case A and a crop around a tumour: the device's, else both, emulated."""
    import torch

    from SAM3DSegmentLib.evaluation.metrics import dice
    from SAM3DSegmentLib.network.adapter_predictor import AdapterPredictor, compute_dtype
    from SAM3DSegmentLib.network.convert import published_metadata
    from SAM3DSegmentLib.network.device import choose_device
    from SAM3DSegmentLib.network.interface import CropClick
    from SAM3DSegmentLib.network.published import read_published
    from SAM3DSegmentLib.scan import parse_point, read_scan
    from Testing.rounded_products import RoundedProducts

    device = choose_device("auto")
    fast = compute_dtype(device)
    kinds = [fast] if fast else [torch.float16, torch.bfloat16]
    network = read_published(folder / "A.pth.tar")
    specification = published_metadata("kits").specification("0" * 64, network.sizes.crop)
    crops = {"case A": crop}
    if SCAN.is_file():
        volume = read_scan(SCAN)
        box = volume.crop_around(parse_point(TUMOUR, volume), 1.0, tuple(crop.shape))
        voxels, inside = box.cut(volume.voxels, antialias=False)
        crops["a real crop"] = torch.from_numpy(specification.intensity.apply(voxels, inside))
    figures = {}
    for name, voxels in crops.items():
        masks = {}
        for dtype in (None, *kinds):
            predictor = AdapterPredictor(network, specification, device, dtype)
            with nullcontext() if fast else RoundedProducts():
                encoding = predictor.encode(voxels, lambda fraction: None)
                clicks = [CropClick((64.0, 64.0, 64.0), True)]
                logits = predictor.decode(encoding, clicks, None, lambda fraction: None)
            masks[dtype] = (logits > 0).numpy(force=True)
        figures |= {f"{name}, {dtype}": dice(masks[None], masks[dtype]) for dtype in kinds}
    return figures


def time_end_to_end(folder: Path, crop) -> dict[str, float]:
    """Seconds from the authors' file to a model, and from a real scan and a click to a file, by the command line."""
    environment = {**os.environ, "SAM3DSEGMENT_MODELS": str(folder / "models")}
    importing = ["models", "import", folder / "A.pth.tar", "--task", "kits"]
    segmenting = ["segment", SCAN, "--model", "kits", "--include", TUMOUR, "--out", folder / "tumour.seg.nrrd"]
    figures = {}
    for name, arguments in (("import", importing), ("segment", segmenting)):
        start = time.perf_counter()
        command = [sys.executable, "-m", "SAM3DSegmentLib.cli", *map(str, arguments)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        figures[name] = time.perf_counter() - start
    return figures


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
