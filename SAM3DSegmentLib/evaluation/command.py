"""The command that evaluates a model: `sam3dsegment evaluate`, and `python -m training evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from SAM3DSegmentLib import __version__
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.option_types import at_least

INTERACTIVE_PROTOCOL, PAPER_PROTOCOL = "interactive", "paper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options except the model's and the device's (`cli.add_engine`)."""
    parser.add_argument("--data", type=Path, required=True, help="folder of CASE_image.nii.gz and CASE_label.nii.gz")
    parser.add_argument("--cases", type=Path, required=True, help="TSV with the columns case and label_value")
    parser.add_argument("--label-column", default="label_value", help="column that holds the label's value")
    parser.add_argument("--clicks", type=at_least(1), default=10, help="clicks on each structure")
    parser.add_argument("--seeds", type=at_least(0), default=3, help="noisy users beside the one of centre clicks")
    parser.add_argument(
        "--protocol",
        choices=(INTERACTIVE_PROTOCOL, PAPER_PROTOCOL),
        default=INTERACTIVE_PROTOCOL,
        help="clicks that correct, or the paper's: 1, 3 and 10 random voxels of the object, one crop, no correction",
    )
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="also a random walker and a region growing: with the model's clicks, and with users who correct them",
    )
    parser.add_argument("--sam", metavar="FILE", help="also SAM slice by slice, from its checkpoint, as a rival")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report; finished trials there are kept")


def run(options: argparse.Namespace) -> None:
    """Evaluate, as far as the folder of the report does not hold the trials yet, and write the report.

    Raises:
        UserError: a case cannot be read, a network fails, or the report cannot be written.
    """
    # Within the function: SciPy, scikit-image and Matplotlib would slow down every other command.
    from SAM3DSegmentLib.evaluation.cases import read_structures
    from SAM3DSegmentLib.evaluation.predictor import one_crop_method, segmenter_method
    from SAM3DSegmentLib.evaluation.protocol import CENTRE, NOISY, PAPER, User
    from SAM3DSegmentLib.evaluation.report import Conditions, write_report
    from SAM3DSegmentLib.evaluation.rivals import RIVALS
    from SAM3DSegmentLib.evaluation.run import Contender, Plan, finished, run_rival, run_share
    from SAM3DSegmentLib.evaluation.share import Share
    from SAM3DSegmentLib.models.store import find_model

    paper = options.protocol == PAPER_PROTOCOL
    users = (PAPER,) if paper else (CENTRE, *(User(NOISY, seed) for seed in range(options.seeds)))
    method = one_crop_method if paper else segmenter_method
    structures = tuple(read_structures(options.cases, options.label_column))
    if options.sam:
        # Its turn comes last, after hours where there are many cases.
        find_model(options.sam)
    plan = Plan(options.data, structures, users, options.clicks, options.out)
    share = Share.from_environment()
    with Engine(options.model, options.device) as engine:
        network = engine.specification
        conditions = Conditions(
            network.name, network.sha256, engine.device, __version__, options.protocol, options.clicks
        )
        model = Contender(network.name, identity_of(engine), method(engine))
        tasks = run_share(plan, model, share)
    # The paper's users click alike whoever answers.
    leaders = () if paper else tuple(tasks)
    for name, classical in RIVALS.items() if options.rivals else ():
        tasks += run_rival(plan, Contender(name, __version__, classical), model, leaders, share)
    if options.sam:
        with Engine(options.sam, options.device) as engine:
            rival = Contender(engine.specification.name, identity_of(engine), method(engine))
            tasks += run_rival(plan, rival, model, leaders, share)
    if share.rank == 0:
        write_report(finished(plan, tasks), conditions, options.out, options.data)


def identity_of(engine: Engine) -> str:
    """What a network's trials depend on beside the clicks: its SHA-256, the version of the program, and the device."""
    return f"{engine.specification.sha256} {__version__} {engine.device}"
