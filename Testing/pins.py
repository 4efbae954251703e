"""Every package that the project brings is installed at its pin, so that what `make audit` reads is what runs.

    python -m Testing.pins

Works offline. Ends with 1 where a package has no pin in constraints.txt, or another version is installed.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PROJECT, EXTRA = "sam3dsegment", "dev"
INSTALLER = {"pip", "setuptools"}
"""They come with the environment."""

WITH_ITS_OWN = "torch"
"""What it requires depends on its build: drivers beside the CUDA one, nothing beside the CPU one."""


def pins() -> dict[str, str]:
    """Of this Python: canonical name and version."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    wanted = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in wanted
        if not requirement.marker or requirement.marker.evaluate()
    }


def brought() -> dict[str, str]:
    """What the project requires with all its extras, directly or not: canonical name and installed version."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(PROJECT, EXTRA)]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen or name in INSTALLER:
            continue
        seen.add((name, extra))
        package = distribution(name)
        found[name] = Version(package.version).public
        for requirement in map(Requirement, package.requires or () if name != WITH_ITS_OWN else ()):
            if not requirement.marker or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                pending += [(needed, needed_extra) for needed_extra in ("", *requirement.extras)]
    del found[PROJECT]
    return found


def complaints() -> list[str]:
    pinned = pins()
    return [
        f"{name} {version} is installed, constraints.txt pins {pinned.get(name, 'no version of it')}"
        for name, version in sorted(brought().items())
        if pinned.get(name) != version
    ]


if __name__ == "__main__":
    found = complaints()
    print("\n".join(found) or f"{len(brought())} packages, each at its pin")
    sys.exit(bool(found))
