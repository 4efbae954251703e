"""What is installed is what is pinned, and so what `make audit` asks about."""

from __future__ import annotations

import pytest

from Testing import pins


def test_a_package_without_a_pin_or_at_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "pins", lambda: {**pins.brought(), "numpy": "0.1"} | {"vtk": None})
    told = pins.complaints()
    assert [line.split()[0] for line in told] == ["numpy", "vtk"]


def test_what_is_required_indirectly_is_asked_about_too() -> None:
    assert {"multidict", "pydicom", "torch"} <= set(pins.brought())
