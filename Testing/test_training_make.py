"""`make train-compact`: how many processes it starts, and what it claims of the scans it trains on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def command_of_make(gpus: str, tmp_path: Path, *variables: str) -> str:
    """What `make train-compact` would run where `nvidia-smi` does what the shell line `gpus` does."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{gpus}\n")
    fake.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key not in ("PROCESSES", "TRAINING_DATA")}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    command = ["make", "--dry-run", "train-compact", *variables]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("gpus", "processes"),
    [
        ("echo 'GPU 0: One (UUID: 0)'", 1),
        ("for n in 0 1 2; do echo \"GPU $n: Many\"; echo '  MIG 1g.10gb Device 0:'; done", 3),
        ("echo 'No devices were found'; exit 6", 2),
    ],
)
def test_make_trains_with_one_process_for_each_gpu_and_two_without(gpus: str, processes: int, tmp_path: Path) -> None:
    assert f"--nproc-per-node {processes} " in command_of_make(gpus, tmp_path)
    assert "--nproc-per-node 5 " in command_of_make(gpus, tmp_path, "PROCESSES=5")


def test_make_claims_the_credit_of_the_sarcomas_for_no_other_scans(tmp_path: Path) -> None:
    assert "credit=" not in command_of_make("exit 6", tmp_path)
    own = command_of_make("exit 6", tmp_path, "TRAINING_DATA=/my scans")
    assert '"source=/my scans" version=1 credit= licence=' in own
