"""The folder where models live on this computer: find, list, import and delete them.

A model is one checkpoint file; its name is the catalogue's, or the file's without suffix. Beside a checkpoint that
cannot say what it was trained for (a published `.pth`) lies a JSON file of the same name with its task; beside one that
runs without PyTorch its graph, `.onnx`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from SAM3DSegmentLib.errors import CheckpointError, ModelStoreError, UnknownModelError
from SAM3DSegmentLib.models.catalogue import CATALOGUE, COMPACT, TASKS, Model
from SAM3DSegmentLib.models.header import SHARED_BACKBONE, backbone_of
from SAM3DSegmentLib.models.integrity import check_described, check_whole, holds_sam
from SAM3DSegmentLib.models.staging import BLOCK_BYTES, check_staged, copy_whole, staging_in, write_whole

FOLDER_VARIABLE = "SAM3DSEGMENT_MODELS"
SUFFIXES = (".safetensors", ".pth")
"""Of checkpoints; where a model is there in both formats the earlier suffix wins."""

GRAPH_SUFFIX = ".onnx"
LOCATION_TAG = b"\x12"
"""Before the length and the text of a value in an ONNX file (protobuf), such as where the weights are."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PACKAGE = Path(__file__).resolve().parents[1]
BUNDLE_FOLDERS = (PACKAGE.parent / "Resources" / "models", PACKAGE / "Resources" / "models")
"""Where the bundled checkpoint lies: in a checkout or a Slicer extension, and in an installed package."""


@dataclass(frozen=True)
class StoredModel:
    """A model that is on this computer.

    Attributes:
        name: by which it is chosen.
        path: of its checkpoint.
        bundled: whether it came with the program and cannot be deleted.
        known: what the catalogue says about it; None for a user's own model.
    """

    name: str
    path: Path
    bundled: bool
    known: Model | None


def models_folder() -> Path:
    """The folder of the user's models: `SAM3DSEGMENT_MODELS`, else the platform's place for a user's data."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "SAM3DSegment" / "models"


def list_models() -> list[StoredModel]:
    """The models on this computer: the bundled one first, then those of the models folder by name.

    Every checkpoint that lies in the folder counts, however it came there.
    """
    bundled = next((f / COMPACT.file_name for f in BUNDLE_FOLDERS if (f / COMPACT.file_name).is_file()), None)
    models = [StoredModel(COMPACT.name, bundled, bundled=True, known=COMPACT)] if bundled else []
    taken = {COMPACT.name}
    for suffix in SUFFIXES:
        for path in models_folder().glob(f"*{suffix}"):
            name = _name_of(path)
            if name not in taken and path.is_file() and not SHARED_BACKBONE.fullmatch(name):
                taken.add(name)
                models.append(StoredModel(name, path, bundled=False, known=CATALOGUE.get(name)))
    return sorted(models, key=lambda model: (not model.bundled, model.name))


def find_model(name_or_path: str) -> Path:
    """The checkpoint of a model on this computer, or the file of that path.

    Raises:
        UnknownModelError: neither is there; the message says which models are, and how to get the one that was meant.
    """
    here = {model.name: model.path for model in list_models()}
    if name_or_path in here:
        return here[name_or_path]
    try:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # no path at all: too long, of an unknown user, not permitted
        pass
    known = CATALOGUE.get(name_or_path)
    if known is None:
        advice = "choose one of them or give the path of a checkpoint file"
    elif known.url:
        advice = f"download {known.name} ({known.title}) or import it from a file"
    else:
        advice = f"import {known.name} ({known.title}) from a file"
    names = ", ".join(here) or "none"
    raise UnknownModelError(f"There is no model {name_or_path!r} on this computer (there: {names}): {advice}.")


def task_of(path: Path) -> Model | None:
    """The published adapter that a `.pth` was imported as, by its name or the JSON beside it; None where neither says.

    Raises:
        CheckpointError: the JSON file beside the checkpoint is damaged.
    """
    if path.suffix != ".pth":
        return None
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return TASKS.get(path.stem)
    try:
        return TASKS[json.loads(beside.read_text(encoding="utf-8"))["task"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{beside} names no known task: import the model {path.stem} again.") from error


def import_model(
    file: Path, name: str | None = None, task: str | None = None, check: Callable[[Path], None] | None = None
) -> Path:
    """Copy a checkpoint into the models folder and return its path there; a model of that name is replaced.

    A file of frozen weights that the checkpoint stands on comes with it, where it lies beside the checkpoint; a damaged
    one in the models folder is replaced. So does its ONNX graph, unless the checkpoint gets another name, which the
    graph would not find it by. What is refused leaves every model as it was.

    Args:
        file: a `.safetensors` file, or a published checkpoint or SAM's own of any suffix.
        name: under which it is kept; by default the catalogue's for a file of known checksum, the task, or the file's.
        task: "kits", "lits", "pancreas" or "colon" for a published 3DSAM-adapter checkpoint.
        check: called with a copy of the checkpoint, beside which lies what it stands on, before it is taken; not for a
            file of known checksum. Raises a `UserError` that names that copy.

    Raises:
        UnknownModelError: there is no such file or task.
        CheckpointError: the file is truncated, no checkpoint or more than plain tensors, its checksum is not that of
            the model of this name, it does not say what it holds, or the frozen weights beside it are damaged.
        ModelStoreError: the name cannot be used, the task is missing or senseless, the file cannot be read, or the
            folder cannot be written.
        UserError: what `check` says, of the user's own file.
    """
    with _reading(file):
        if not file.is_file():
            raise UnknownModelError(f"There is no file {file}: give the path of a downloaded checkpoint.")
        if task is not None and task not in TASKS:
            raise UnknownModelError(f"There is no task {task!r}: choose one of {', '.join(TASKS)}.")
        digest = sha256_of(file)
    name = name or next((m.name for m in CATALOGUE.values() if m.sha256 == digest), None) or task or file.stem
    _check_name(name)
    known = CATALOGUE.get(name)
    if known and known.sha256 not in (None, digest):
        raise CheckpointError(f"{file} is not {known.title}, or it is damaged (SHA-256 {digest}): download it again.")
    is_proven = known is not None and known.sha256 is not None
    task = task or (name if name in TASKS else None)
    suffix = ".safetensors" if file.suffix == ".safetensors" else ".pth"
    folder = models_folder()
    with _reading(file):
        if not is_proven:
            check_whole(file)
        if suffix == ".safetensors":
            check_described(file, name, digest)
        else:
            _check_task(file, task, is_proven)
        backbone = _backbone_to_bring(file, folder)
    target = folder / (known.file_name if known and known.file_name.endswith(suffix) else name + suffix)
    with _touching(target), staging_in(folder) as staging:
        parts = [copy_whole(backbone, staging / backbone.name)] if backbone else []
        if suffix == ".pth" and task:
            note = json.dumps({"task": task, "source": file.name, "sha256": digest}, indent=2).encode()
            parts.append(write_whole(io.BytesIO(note), staging / target.with_suffix(".json").name))
        graph = _graph_to_bring(file, target.name, digest)
        if graph:
            parts.append(copy_whole(graph, staging / target.with_suffix(GRAPH_SUFFIX).name))
        # Last, so that a model is complete as soon as it is listed.
        parts.append(copy_whole(file, staging / target.name))
        if check and not is_proven:
            check_staged(check, parts[-1], file, backbone_of(file))
        for part in parts:
            os.replace(part, folder / part.name)
        for other in SUFFIXES:
            if other != suffix:
                (folder / (name + other)).unlink(missing_ok=True)
        if not graph:
            target.with_suffix(GRAPH_SUFFIX).unlink(missing_ok=True)
    return target


def delete_model(name: str) -> None:
    """Remove a model, what lies beside it, what an unfinished download of it left, and a backbone that no other needs.

    Raises:
        ModelStoreError: the model came with the program, or its file cannot be removed.
        UnknownModelError: there is no such model.
    """
    if name == COMPACT.name:
        raise ModelStoreError(f"The model {name!r} came with the program: only models that were added can be deleted.")
    folder = models_folder()
    suffixes = (*SUFFIXES, GRAPH_SUFFIX, ".json", ".partial")
    belonging = [path for path in folder.glob("*") if path.suffix in suffixes and _name_of(path) == name]
    if not belonging:
        raise UnknownModelError(f"There is no model {name!r} on this computer: nothing was deleted.")
    backbones = {backbone_of(path) for path in belonging}
    with _touching(folder):
        for path in belonging:
            path.unlink()
        needed = {backbone_of(model.path) for model in list_models()}
        for backbone in backbones - needed - {None}:
            (folder / f"{backbone}.safetensors").unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The checksum of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _name_of(path: Path) -> str:
    """`sam_vit_b` for `sam_vit_b_01ec64.pth` and its `.partial`, as the catalogue has it; else the stem."""
    file = path.stem if path.suffix == ".partial" else path.name
    return next((m.name for m in CATALOGUE.values() if m.file_name == file), Path(file).stem)


def _check_name(name: str) -> None:
    if name == COMPACT.name:
        raise ModelStoreError(f"{name!r} is the model that came with the program: import yours under another name.")
    if not NAME_PATTERN.fullmatch(name):
        raise ModelStoreError(f"{name!r} cannot be a model's name: use letters, digits, '.', '_' and '-' only.")


def _check_task(file: Path, task: str | None, is_proven: bool) -> None:
    """Refuse a published checkpoint without its task, and SAM's own weights with one."""
    if holds_sam(file):
        if task:
            raise ModelStoreError(
                f"{file.name} holds SAM's own weights, which know no tumour: leave the task {task!r} out."
            )
    elif task is None and not is_proven:
        raise ModelStoreError(f"{file.name} does not say what it was trained for: name its task ({', '.join(TASKS)}).")


def _backbone_to_bring(file: Path, folder: Path) -> Path | None:
    """The frozen weights beside a checkpoint, where it stands on them and the folder lacks them or holds them damaged.

    Raises:
        CheckpointError: they would be needed, and their checksum is not their name.
    """
    digest = backbone_of(file)
    if digest is None:
        return None
    beside, kept = (place / f"{digest}.safetensors" for place in (file.parent, folder))
    if not beside.is_file() or (kept.is_file() and sha256_of(kept) == digest):
        return None
    if sha256_of(beside) != digest:
        raise CheckpointError(
            f"{beside}, on which {file.name} stands, is damaged (its SHA-256 is not its name): download it again; "
            "the models are as before."
        )
    return beside


def _graph_to_bring(file: Path, file_name: str, digest: str) -> Path | None:
    """The ONNX graph beside a checkpoint, where it was exported from this very file and finds it by `file_name`."""
    graph = file.with_suffix(GRAPH_SUFFIX)
    if graph == file or not graph.is_file():
        return None
    content, name = graph.read_bytes(), file_name.encode()
    named = LOCATION_TAG + bytes([len(name)]) + name if len(name) < 128 else None
    return graph if named and named in content and digest.encode() in content else None


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Failures to read a user's file become `ModelStoreError`."""
    try:
        yield
    except OSError as error:
        raise ModelStoreError(
            f"{error.filename or file} cannot be read ({error.strerror}): permit reading it, or copy it again."
        ) from error


@contextmanager
def _touching(target: Path) -> Iterator[None]:
    """Failures of the file system become `ModelStoreError`."""
    try:
        yield
    except OSError as error:
        raise ModelStoreError(
            f"{target} cannot be changed ({error.strerror}): free space or permit writing there, "
            f"or choose another folder by {FOLDER_VARIABLE}."
        ) from error
