"""Generated messages and mutated files: always the right error, never a crash, a hang or memory without limit."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from SAM3DSegmentLib.engine.fields import CLICK_LIMIT, FieldError, decode_of
from SAM3DSegmentLib.engine.wire import Message
from SAM3DSegmentLib.errors import ScanError, UnknownModelError
from SAM3DSegmentLib.models.store import find_model
from SAM3DSegmentLib.scan import read_scan
from Testing import messages
from Testing.mutations import outcomes_of, wrong

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")


def test_the_engine_answers_each_generated_request_as_it_should() -> None:
    assert messages.tried_on_the_engine(300) == 300


def test_the_client_takes_each_generated_answer_for_what_it_is() -> None:
    assert messages.tried_on_the_client(300) == 300


def test_generated_bytes_are_a_message_or_no_message() -> None:
    assert messages.tried_as_bytes(300) == 300


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-this-name/model", "\0", "\ud800"])
def test_a_name_that_is_no_possible_path_is_an_unknown_model(name: str) -> None:
    with pytest.raises(UnknownModelError):
        find_model(name)


def test_a_scan_that_claims_more_than_its_file_can_hold_takes_no_memory(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.int16)
    (tmp_path / "scan.nii").write_bytes(header.binaryblock + bytes(1000))
    (tmp_path / "scan.nrrd").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nencoding: raw\nendian: little\n\n"
    )
    for name in ("scan.nii", "scan.nrrd"):
        with pytest.raises(ScanError, match="damaged"):
            read_scan(tmp_path / name)


def test_more_clicks_than_a_crop_takes_are_refused_by_the_engine() -> None:
    clicks = [[1.0, 2.0, 3.0, True]] * (CLICK_LIMIT + 1)
    request = Message("decode", {"request": 1, "crop": messages.KEY, "previous": None, "clicks": clicks})
    with pytest.raises(FieldError, match=f"at most {CLICK_LIMIT}"):
        decode_of(request, messages.EDGE)


@on_linux
@pytest.mark.parametrize(
    ("kind", "count", "errors"),
    [
        ("nii", 120, {"ScanError"}),
        ("nii.gz", 120, {"ScanError"}),
        ("nrrd", 120, {"ScanError"}),
        ("mha", 60, {"ScanError"}),
        ("safetensors", 120, {"CheckpointError"}),
        ("json", 60, {"CheckpointError"}),
    ],
)
def test_mutated_files_are_read_or_refused_with_the_right_error(
    kind: str, count: int, errors: set[str], tmp_path: Path
) -> None:
    outcomes = outcomes_of(kind, count, tmp_path)
    assert wrong(outcomes) == []
    assert set(outcomes) <= {"read", *errors} and outcomes.total() == count
