"""`python -m training prepare`: from scans and masks in the layout they came in to a data set to train on."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from SAM3DSegmentLib.errors import CaseError, ConfigurationError, ExportError, ScanError
from SAM3DSegmentLib.intensity import PERCENTILES, SMALLEST_DEVIATION, CropStatistics, FixedWindow
from training import configuration as configurations
from training.case_preparation import CaseRecord, prepare_case
from training.configuration import Configuration
from training.dataset import DATASET_FILE, SPLITS, PreparedCase, PreparedDataset, Split, write_beside
from training.layouts import SourceCase, find_cases
from training.native_cases import write_native_cases

LEFT_OUT_FILE = "left_out.txt"

add_arguments = configurations.add_arguments


def run(options: argparse.Namespace) -> None:
    """Prepare the data set of a configuration, and say what became of each case."""
    dataset = prepare(configurations.from_options(options))
    print(summary(dataset))


def prepare(configuration: Configuration) -> PreparedDataset:
    """The data set of a configuration, written to its `data` folder; what an earlier run finished is kept.

    Cases that cannot be used are left out: each is named on standard error and in `left_out.txt`, with the reason. The
    test cases, or those of validation where there are none, are also laid out for `evaluate` (`native_cases`).

    Raises:
        ConfigurationError: no `source` is given.
        CaseError: the source does not have its layout, no case can be used, or the patients do not suffice.
        ExportError: the data folder cannot be written.
    """
    cases = find_cases(configuration.layout, configuration.source)
    try:
        configuration.data.mkdir(parents=True, exist_ok=True)
        # Until all cases are there, no description may claim so: an earlier one can be of another target.
        (configuration.data / DATASET_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"{configuration.data} cannot be written ({error.strerror}): choose another folder."
        ) from error

    records: dict[str, CaseRecord] = {}
    left_out: dict[str, str] = {}
    for name, outcome in prepared(cases, configuration):
        if isinstance(outcome, str):
            left_out[name] = outcome
            tqdm.write(f"left out {name}: {outcome}", file=sys.stderr)
        else:
            records[name] = outcome
    report = "".join(f"{name}: {reason}\n" for name, reason in sorted(left_out.items())).encode()
    write_beside(configuration.data / LEFT_OUT_FILE, report)
    used = [case for case in cases if case.name in records]
    if not used:
        name, reason = min(left_out.items())
        raise CaseError(f"None of {len(cases)} cases can be used; the first, {name}: {reason}.")

    splits = split_by_patient(used, configuration)
    dataset = PreparedDataset(
        configuration.data,
        configuration.task,
        configuration.spacing,
        intensity_of([records[case.name] for case in used if splits[case.patient] == "train"], configuration),
        tuple(as_prepared(case, records[case.name], splits[case.patient], configuration.data) for case in used),
    )
    held_out: Split = "test" if dataset.of_split("test") else "validation"
    write_native_cases([case for case in used if splits[case.patient] == held_out], configuration)
    dataset.save()
    return dataset


def prepared(cases: Sequence[SourceCase], configuration: Configuration) -> Iterator[tuple[str, CaseRecord | str]]:
    """The name of each case and its record, or the reason to leave it out, as they get ready."""
    with ProcessPoolExecutor(max(1, configuration.workers)) as pool:
        jobs: dict[Future[CaseRecord], str] = {
            pool.submit(prepare_case, case, configuration): case.name for case in cases
        }
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="prepare", unit="case"):
                try:
                    yield jobs[job], job.result()
                except (ScanError, CaseError) as error:
                    yield jobs[job], str(error).removesuffix(".")
                except MemoryError:
                    yield jobs[job], "it does not fit into memory: resample it first, or set workers=1"
        except BrokenProcessPool as error:
            raise ConfigurationError(
                f"A process was killed, most likely for want of memory: set workers below {configuration.workers} and "
                "start again, finished cases are kept."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def split_by_patient(cases: Sequence[SourceCase], configuration: Configuration) -> dict[str, Split]:
    """The split of each patient: the given one, else drawn by the seed and the patient's name.

    Where some cases come with a split, the shares that it already covers are not drawn again. A patient who comes or
    goes moves no more than one other from each split to the next.

    Raises:
        CaseError: a patient is given two splits, or there are fewer patients than splits to fill.
    """
    given: dict[str, Split] = {}
    for case in cases:
        if case.split and given.setdefault(case.patient, case.split) != case.split:
            raise CaseError(
                f"Patient {case.patient} lies in {given[case.patient]} and, by case {case.name}, in {case.split}: "
                "keep all scans of a patient in one split."
            )
    patients = sorted({case.patient for case in cases} - given.keys())
    shares: dict[Split, float] = {"validation": configuration.validation_share, "test": configuration.test_share}
    wanted = {split: share for split, share in shares.items() if share and split not in given.values()}
    counts = {split: max(1, round(share * len(patients))) for split, share in wanted.items()} if patients else {}
    empty = [split for split in SPLITS if split in wanted or (split == "train" and split not in given.values())]
    if patients and len(patients) < sum(counts.values()) + ("train" in empty):
        raise CaseError(
            f"{len(patients)} patients are fewer than the splits {', '.join(empty)} need: add patients, "
            "or set validation_share or test_share to 0."
        )
    drawn = sorted(patients, key=lambda patient: hashlib.sha256(f"{configuration.seed} {patient}".encode()).digest())
    for split, count in counts.items():
        given |= dict.fromkeys(drawn[:count], split)
        drawn = drawn[count:]
    for patient in drawn:
        given[patient] = "train"
    return given


def intensity_of(records: Sequence[CaseRecord], configuration: Configuration) -> FixedWindow | CropStatistics:
    """The 0.5 and 99.5 percentiles, mean and deviation of all voxels of the targets, in the scan's units."""
    if configuration.intensity == "crop":
        return CropStatistics()
    pooled: dict[int, int] = {}
    for record in records:
        for value, count in zip(record.values, record.counts, strict=True):
            pooled[value] = pooled.get(value, 0) + count
    values = np.array(sorted(pooled))
    counts = np.array([pooled[value] for value in values])
    mean = np.average(values, weights=counts)
    std = np.average((values - mean) ** 2, weights=counts) ** 0.5
    low, high = (float(values[np.searchsorted(counts.cumsum(), p / 100 * counts.sum())]) for p in PERCENTILES)
    if low == high or std < SMALLEST_DEVIATION:
        raise CaseError(
            f"All voxels of the targets have the value {low:g}: check that scans and masks belong together."
        )
    return FixedWindow(low, high, float(mean), float(std))


def as_prepared(case: SourceCase, record: CaseRecord, split: Split, folder: Path) -> PreparedCase:
    return PreparedCase(
        case.name, case.patient, split, record.shape, record.foreground, record.low, record.high, folder
    )


def summary(dataset: PreparedDataset) -> str:
    """A few lines on the data set."""
    counted = []
    for split in SPLITS:
        cases = dataset.of_split(split)
        counted.append(f"{split} {len(cases)} of {len({case.patient for case in cases})} patients")
    window = asdict(dataset.intensity)
    figures = ", ".join(f"{key} {value:.5g}" for key, value in window.items()) or "by each crop's own percentiles"
    return f"{dataset.folder}: {len(dataset.cases)} cases ({'; '.join(counted)})\nintensity: {figures}"
