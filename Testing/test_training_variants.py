"""The table of the compact network's variants: each is trained and measured alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from SAM3DSegmentLib.network.compact import CompactNetwork
from Testing.source_scans import write_balls
from Testing.test_training_compact import PATIENTS, RECIPE, SMALL
from training.compact import samples, variants
from training.compact.samples import Mixture
from training.compact.variants import LateFusion, Variant


def test_each_variant_gets_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        Variant("early", lambda: CompactNetwork((8, 16), (1, 2))),
        Variant("late", lambda: LateFusion((8, 16), (1, 2))),
        Variant("synthetic", lambda: CompactNetwork((8, 16), (1, 2)), Mixture(0, 0, 0)),
    ]
    monkeypatch.setattr(variants, "VARIANTS", small)
    monkeypatch.setattr(variants, "CROP_SIZE", SMALL)
    monkeypatch.setattr(samples, "CROP_SIZE", SMALL)
    monkeypatch.setattr(variants, "VALIDATION_CROPS", 2)
    changes = [f"source={write_balls(tmp_path, PATIENTS)}", "workers=0"]
    monkeypatch.setattr("sys.argv", ["variants", "--config", str(RECIPE), "--steps", "3", "--set", *changes])
    variants.main()
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert "1 / 3 / 5 clicks" in header and set(rule) <= set("| -")
    assert [row.split(" | ")[0] for row in rows] == ["| early", "| late", "| synthetic"]
    assert all(len(row.split("/")) == 3 for row in rows)


def test_the_levels_of_a_late_fusion_see_the_image_alone() -> None:
    network = LateFusion((8, 16), (1, 2)).eval()
    seen: list[torch.Tensor] = []
    network.stem.register_forward_hook(lambda module, inputs, output: seen.append(output))
    image, empty = torch.randn(1, 1, SMALL, SMALL, SMALL), torch.zeros(1, 1, SMALL, SMALL, SMALL)
    reach = torch.zeros(1, 4, SMALL // 2, SMALL // 2, SMALL // 2)
    clicked = empty.clone()
    clicked[..., 8, 8, 8] = 1
    with torch.no_grad():
        answers = [network(image, include, empty, empty, reach) for include in (empty, clicked)]
    assert torch.equal(*seen) and not torch.equal(*answers)
