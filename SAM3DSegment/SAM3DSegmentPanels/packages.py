"""Installing the Python packages that a model needs, after one question."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"


def install_packages(packages: Sequence[str]) -> str:
    """Ask, then install torch through the PyTorch extension and the others by Slicer's own means.

    Returns:
        A sentence about what is in the way; empty after a success.
    """
    from slicer.packaging import load_requirements, pip_ensure

    names = ", ".join(packages)
    question = _(
        "The chosen model needs {packages}.\n\nThey are installed into {place}; torch takes 0.3 to 3 GB of disk and "
        "some minutes, the others about 20 MB. Install them now?"
    ).format(packages=names, place=sys.prefix)
    if not slicer.util.confirmOkCancelDisplay(question, _("SAM3DSegment - missing packages")):
        return _("{packages} missing: press the button below, or run the model by a remote command.").format(
            packages=names
        )
    if "torch" in packages:
        try:
            import PyTorchUtils
        except ModuleNotFoundError:
            return _("The extension PyTorch is missing: install it in the Extensions Manager, then restart Slicer.")
    try:
        if "torch" in packages:
            PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=">=2.4")
        wanted = [requirement for requirement in load_requirements(REQUIREMENTS) if requirement.name in packages]
        if wanted:
            pip_ensure(wanted, prompt_install=False, requester="SAM3DSegment")
    except (RuntimeError, ImportError, OSError, subprocess.CalledProcessError) as error:
        return _("The installation failed ({error}): see the log.").format(error=error)
    return ""
