"""The configuration of a data set and a training run: a YAML file, read into one typed, frozen dataclass."""

from __future__ import annotations

import argparse
import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from SAM3DSegmentLib.errors import CheckpointError, ConfigurationError
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.models.store import NAME_PATTERN
from SAM3DSegmentLib.network.adapted_encoder import AdapterSizes
from SAM3DSegmentLib.network.adapter_checkpoint import sizes_from
from SAM3DSegmentLib.network.compact_prompt import CROP_SIZE
from SAM3DSegmentLib.network.metadata import Metadata

Layout = Literal["decathlon", "kits", "lits", "nnunet", "csv", "pairs"]
AdapterKind = Literal["spatial", "bottleneck", "st", "lora", "bias", "full"]
SIZES = ("width", "depth", "heads", "window", "channels")
"""Of `AdapterSizes`, those that `Configuration.sizes` may name."""

KIND_NAMES: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Configuration:
    """All that a run depends on; the defaults are the paper's (Gong et al. 2024, section 4.1) where it names a value.

    Attributes:
        name: of the model.
        task: what it segments, in words.
        version: of the model, as its maker counts.
        credit: whose scans they are and under which licence, for the description of the model; "" for none.
        licence: of the model's weights; "" where none is given.
        data: folder of the prepared data set.
        out: folder of the run.
        source: folder of the scans and masks as they came (a table for the layout "csv"); read by `prepare`, and by
            the training of the compact network.
        layout: how they lie there; "pairs" for the compact network.
        label: values in a label map that are the target.
        known_labels: every value that a label map may hold besides 0; empty: any.
        spacing: edge of a prepared voxel in mm.
        intensity: "window": one window for all scans, from the target's voxels (CT). "crop": each crop's own
            percentiles (MR, mixtures).
        validation_share, test_share: of the patients, where the data set has no split of its own.
        network: which network is trained.
        adapter: which parts of SAM's encoder are added and trained (adapter network).
        prompt: "clicks", or "automatic" for a network that needs none (adapter network).
        crop_size: edge of a crop in voxels; 64 for the compact network.
        backbone: file of SAM's weights, or of the compact checkpoint to start from; None for random ones.
        sizes: of a reduced network, by the names in `SIZES` (see `AdapterSizes`); those left out are ViT-B's.
        epochs: passes of `samples_per_epoch` crops.
        samples_per_epoch: crops; None for one of each training case, for the compact network for 500.
        batch_size: crops of one process in one step.
        learning_rate: at the start, it falls linearly to a hundredth; of the compact network the peak (`part_of_peak`).
        weight_decay: the optimiser's.
        gradient_clip: largest norm of the gradient.
        clicks_per_sample: of the simulated user on one crop.
        precision: "bf16" where the device has it, or "fp32".
        activation_checkpointing: compute activations again in the backward pass, to fit a smaller GPU.
        validation_every: epochs between validations and saved states.
        workers: processes that load crops.
        seed: of every random choice.
    """

    name: str
    task: str
    data: Path
    out: Path
    version: int = 1
    credit: str = ""
    licence: str = ""
    source: Path | None = None
    layout: Layout = "pairs"
    label: tuple[int, ...] = (1,)
    known_labels: tuple[int, ...] = ()
    spacing: float = 1.0
    intensity: Literal["window", "crop"] = "window"
    validation_share: float = 0.1
    test_share: float = 0.2
    network: Literal["adapter", "compact"] = "adapter"
    adapter: AdapterKind = "spatial"
    prompt: Literal["clicks", "automatic"] = "clicks"
    crop_size: int = 128
    backbone: Path | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    epochs: int = 500
    samples_per_epoch: int | None = None
    batch_size: int = 1
    learning_rate: float = 4e-4
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    clicks_per_sample: int = 5
    precision: Literal["bf16", "fp32"] = "bf16"
    activation_checkpointing: bool = True
    validation_every: int = 5
    workers: int = 4
    seed: int = 0

    @property
    def adapter_sizes(self) -> AdapterSizes:
        """Widths and counts of the adapter network; `adapter` and `prompt` decide about its parts."""
        return AdapterSizes(**self.sizes, crop=self.crop_size)

    def credited(self, training_data: str) -> str:
        """What a model learned from, in words, and the credit that the data asks for."""
        return f"{training_data}; {self.credit}" if self.credit else training_data

    def to_json(self) -> dict[str, Any]:
        """Plain values, as a YAML file holds them."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def load(cls, file: Path, changes: Mapping[str, Any] = types.MappingProxyType({})) -> Configuration:
        """The configuration of a YAML file, with some of its values changed.

        Raises:
            ConfigurationError: the file cannot be read; a key is unknown or absent; a value is of another kind, out of
                range or does not go with another.
        """
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(f"The configuration {file} cannot be read ({one_line(error)}).") from error
        if not isinstance(content, dict):
            raise ConfigurationError(
                f"The configuration {file} is no list of `key: value` lines: see training/configs."
            )
        content = {**content, **changes}
        check_keys(content, file)
        hints = get_type_hints(cls)
        configuration = cls(**{key: converted(key, value, hints[key], file) for key, value in content.items()})
        check_values(configuration, file)
        return configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config FILE` and `--set KEY=VALUE ...`, for every command that needs a configuration."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file, for example training/configs/kits.yaml")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", dest="changes", help="values instead of the file's"
    )


def from_options(options: argparse.Namespace) -> Configuration:
    """The configuration that a command line asks for.

    Raises:
        ConfigurationError: see `Configuration.load`; or a change is not written KEY=VALUE.
    """
    changes: dict[str, Any] = {}
    for change in options.changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {change} changes nothing: write KEY=VALUE, for example epochs=100.")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set {change} cannot be read ({one_line(error)}).") from error
    return Configuration.load(options.config, changes)


def check_keys(content: Mapping[Any, Any], file: Path) -> None:
    """Raise `ConfigurationError` for keys that are unknown, with the one that was meant, or absent."""
    known = [f.name for f in fields(Configuration)]
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            meant = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
            raise ConfigurationError(f"{file} has the key {str(key)!r}, which means nothing: {meant}")
    for f in fields(Configuration):
        if f.name not in content and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigurationError(f"{file} has no {f.name!r}: add it, or give it by --set {f.name}=VALUE.")


def converted(key: str, value: Any, kind: Any, file: Path) -> Any:
    """The value as the field's type has it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else converted(key, value, arguments[0], file)
    if origin is Literal:
        if value not in arguments:
            raise ConfigurationError(f"{key}: {value} in {file} is not one of {', '.join(arguments)}.")
        return value
    if origin is tuple:
        values = value if isinstance(value, list) else [value]
        return tuple(converted(key, item, arguments[0], file) for item in values)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigurationError(f"{key}: {value} in {file} is no list of `name: number`.")
        return {str(name): converted(f"{key}.{name}", item, arguments[1], file) for name, item in value.items()}
    if kind is str and value is None:
        return ""  # YAML takes nothing behind the colon, or behind `--set credit=`, for null.
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML takes 4e-4, without a point, for text.
        except ValueError:
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigurationError(f"{key}: {value} in {file} is not {KIND_NAMES.get(kind, 'the path of a file or folder')}.")


def check_values(configuration: Configuration, file: Path) -> None:
    """Raise `ConfigurationError` for values that make no run."""
    c = configuration
    positive = ("version", "spacing", "crop_size", "epochs", "batch_size", "learning_rate", "gradient_clip")
    positive = (*positive, "clicks_per_sample", "validation_every")
    shares = ("validation_share", "test_share")
    faults = {key: "must be above 0" for key in positive if not getattr(c, key) > 0}
    faults |= {key: "must not be negative" for key in ("weight_decay", "workers", "seed") if not getattr(c, key) >= 0}
    faults |= {key: "must lie between 0 and 1" for key in shares if not 0 <= getattr(c, key) <= 1}
    if not NAME_PATTERN.fullmatch(c.name):
        faults["name"] = "must consist of letters, digits, '.', '_' and '-'"
    if c.samples_per_epoch is not None and c.samples_per_epoch <= 0:
        faults["samples_per_epoch"] = "must be above 0, or null for one crop of each case (compact: 500)"
    if not c.label or min(c.label) <= 0:
        faults["label"] = "must be whole numbers above 0"
    if c.known_labels and not set(c.label) <= set(c.known_labels):
        faults["known_labels"] = "must hold the values of label"
    if c.validation_share + c.test_share >= 1:
        faults["test_share"] = "must leave patients to train on, beside validation_share"
    if c.network == "adapter":
        faults |= faults_of_sizes(c, file)
    else:
        required = {"crop_size": CROP_SIZE, "layout": "pairs"}
        faults |= {k: f"must be {v} for the compact network" for k, v in required.items() if getattr(c, k) != v}
    if faults:
        key, fault = next(iter(faults.items()))
        raise ConfigurationError(f"{key}: {getattr(c, key)} in {file} {fault}.")


def faults_of_sizes(configuration: Configuration, file: Path) -> dict[str, str]:
    """What is wrong with the sizes of an adapter network, by key."""
    if not set(configuration.sizes) <= set(SIZES):
        return {"sizes": f"may name {', '.join(SIZES)} only"}
    sizes = asdict(configuration.adapter_sizes)
    described = Metadata("", "", "", CropStatistics(), spacings=(), signed=True, antialias=True, sizes=sizes)
    try:
        sizes_from(described, str(file))
    except CheckpointError:
        return {
            "sizes": f"make no network with crop_size: {configuration.crop_size} (depth a multiple of 4, width of "
            "2 * heads, channels of 16, window even, crop_size a multiple of 4 * window)"
        }
    return {}


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
