"""The page's section Model, without a page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from SAM3DSegmentLib.models.store import list_models
from SAM3DSegmentLib.viewer import model_section
from SAM3DSegmentLib.viewer.model_section import ModelSection
from SAM3DSegmentLib.viewer.panel_state import PanelState
from Testing.models.helpers import safetensors


@pytest.mark.parametrize(("meanwhile", "chosen"), [("", "mine"), ("kits", "kits")])
def test_an_imported_model_is_chosen_unless_the_user_chose_another_meanwhile(
    meanwhile: str, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM3DSEGMENT_MODELS", str(tmp_path / "models"))
    shown = PanelState()
    section = ModelSection(shown, "compact", lambda: None, lambda message, failed: None)

    def choose(checkpoint: Path) -> None:
        shown.model = meanwhile or shown.model

    monkeypatch.setattr(model_section, "check_loads", choose)
    file = tmp_path / "mine.safetensors"
    file.write_bytes(safetensors(b"mine", architecture="compact"))
    asyncio.run(section.import_file(file))
    assert shown.model == chosen and "mine" in {model.name for model in list_models()}
