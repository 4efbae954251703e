"""The commands `sam3dsegment models list | download | import | convert | delete`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

AddCommand = Callable[[Any, str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def add_actions(command: argparse.ArgumentParser, add_command: AddCommand) -> None:
    """The actions of `sam3dsegment models`; `add_command` makes each of them, as it does the other commands."""
    actions = command.add_subparsers(metavar="ACTION")
    add_command(actions, "list", run_list, "the models on this computer and those that can be had")
    add_command(actions, "download", run_download, "download a model").add_argument("name")
    importing = add_command(actions, "import", run_import, "take a model from a file, offline")
    importing.add_argument("file", type=Path)
    importing.add_argument("--name", help="under which it is kept")
    importing.add_argument("--task", help="kits, lits, pancreas or colon for a published 3DSAM-adapter checkpoint")
    converting = add_command(actions, "convert", run_convert, "a published checkpoint to safetensors")
    converting.add_argument("file", type=Path)
    converting.add_argument("--task", required=True, help="kits, lits, pancreas or colon")
    converting.add_argument("--out", type=Path, required=True, help="folder for the adapter and its backbone")
    add_command(actions, "delete", run_delete, "delete a model from disk").add_argument("name")


def run_list(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.models.catalogue import CATALOGUE
    from SAM3DSegmentLib.models.store import list_models, models_folder

    here = list_models()
    for model in here:
        print(f"{model.name:<16} {model.known.title if model.known else 'your own'}\n{'':<16} {model.path}")
    for known in CATALOGUE.values():
        if known.name not in {model.name for model in here}:
            means = "sam3dsegment models download" if known.url else "sam3dsegment models import FILE --task"
            print(f"{known.name:<16} {known.title}\n{'':<16} not on this computer: {means} {known.name}")
    print(f"\nModels folder: {models_folder()}")


def run_download(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.errors import UnknownModelError
    from SAM3DSegmentLib.models.catalogue import CATALOGUE
    from SAM3DSegmentLib.models.download import download_model

    model = CATALOGUE.get(options.name)
    if model is None or model.url is None:
        names = ", ".join(m.name for m in CATALOGUE.values() if m.url)
        raise UnknownModelError(
            f"{options.name!r} cannot be downloaded: choose {names}, or import a model from a file."
        )

    shown = False

    def progress(done: int, total: int) -> None:
        nonlocal shown
        shown = True
        print(f"\r{model.title}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", end="", file=sys.stderr)

    try:
        path = download_model(model, progress)
    finally:
        if shown:
            print(file=sys.stderr)
    print(path, file=sys.stderr)


def run_import(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.interaction.model_check import check_loads
    from SAM3DSegmentLib.models.store import import_model

    print(import_model(options.file, options.name, options.task, check_loads))


def run_convert(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.errors import EngineError
    from SAM3DSegmentLib.interaction.packages import missing_packages
    from SAM3DSegmentLib.models.catalogue import SAM_VIT_B

    if lacking := missing_packages(SAM_VIT_B.name):
        raise EngineError(
            f"Converting a checkpoint needs {', '.join(lacking)}, not installed here: install what is missing, "
            'in a checkout with pip install ".[engine]".'
        )

    from SAM3DSegmentLib.network.convert import convert_published

    for path in convert_published(options.file, options.task, options.out):
        print(path)


def run_delete(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.models.store import delete_model

    delete_model(options.name)
