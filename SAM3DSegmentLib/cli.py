"""The command line: `sam3dsegment segment | demo | view | info | replay | evaluate | models | engine`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from SAM3DSegmentLib import __version__, model_commands
from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import CancelledError, NoIncludeClickError, UserError
from SAM3DSegmentLib.evaluation import command as evaluation
from SAM3DSegmentLib.option_types import at_least, host, port
from SAM3DSegmentLib.typed_clicks import add_clicks, joined_points

if TYPE_CHECKING:
    from SAM3DSegmentLib.geometry import BoolArray
    from SAM3DSegmentLib.headless import Answer, HeadlessSession


DEMO_LESION = 2
"""The phantom's kidney tumour with a necrotic core: one click takes a part of it, so there is something to refine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 where the user's input is at fault, with one line that says so."""
    options = parser().parse_args(joined_points(sys.argv[1:] if arguments is None else arguments))
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"sam3dsegment: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", __package__):
            raise  # a fault of ours
        extra = "evaluation" if options.run is evaluation.run else "desktop"
        advice = f'install what this command needs, in a checkout with pip install ".[{extra}]"'
        print(f"sam3dsegment: {error.name} is not installed: {advice}.", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, CancelledError):
        print("sam3dsegment: cancelled", file=sys.stderr)
        return 130


class OneLineParser(argparse.ArgumentParser):
    """Tells what is wrong with the arguments in one line, and takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = OneLineParser(prog="sam3dsegment", description="Click-to-segment for tumours in CT and MR.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    segment = add_command(commands, "segment", run_segment, "segment one object of a scan from clicks")
    segment.add_argument("scan", type=Path, help="NIfTI, NRRD, MHA, or a folder with one DICOM series")
    add_clicks(segment)
    segment.add_argument("--out", type=Path, required=True, help="FILE.seg.nrrd, FILE.nrrd or FILE.nii.gz")
    add_engine(segment)
    segment.add_argument("--json", action="store_true", help="print one JSON object instead of a table")

    demo = add_command(commands, "demo", run_demo, "the main job on a phantom, or on a scan of yours")
    demo.add_argument("--scan", type=Path, help="a scan of yours instead of the phantom")
    add_clicks(demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for tumour.seg.nrrd and tumour.png")
    add_engine(demo)

    view = add_command(commands, "view", run_view, "click in a browser: Slicer's views without Slicer")
    view.add_argument("scan", type=Path, nargs="?", help="a scan of yours instead of the phantom")
    add_engine(view)
    view.add_argument(
        "--engine-command",
        type=shlex.split,
        default=[],
        metavar="COMMAND",
        help='that starts the engine elsewhere, for example "ssh gpu-host sam3dsegment engine"',
    )
    view.add_argument(
        "--host", type=host, default="127.0.0.1", help="address to bind to; beyond this computer at your own risk"
    )
    view.add_argument("--port", type=port, default=8080, help="0 for any that is free")
    view.add_argument("--upload-limit", type=at_least(1), default=4000, metavar="MB", help="of one upload")
    view.add_argument("--no-browser", action="store_true", help="print the address only")

    evaluate = add_command(commands, "evaluate", evaluation.run, "measure quality with simulated users")
    evaluation.add_arguments(evaluate)
    add_engine(evaluate)

    info = add_command(commands, "info", run_info, "how the segments of a file were made")
    info.add_argument("file", type=Path, help="FILE.seg.nrrd")
    info.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    replay = add_command(commands, "replay", run_replay, "make the segments of a file again from their clicks")
    replay.add_argument("file", type=Path, help="FILE.seg.nrrd")
    replay.add_argument("scan", type=Path, help="the scan that it was made on")
    add_engine(replay)
    replay.set_defaults(model=None)
    replay.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    models = add_command(
        commands, "models", model_commands.run_list, "list, download, import, convert and delete models"
    )
    model_commands.add_actions(models, add_command)

    add_command(commands, "engine", run_engine, "serve a network on standard input and output (docs/protocol.md)")
    return top


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], summary: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


def add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="compact", help="name of a model, or the path of a checkpoint")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def run_segment(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.headless import HeadlessSession
    from SAM3DSegmentLib.interaction.news import LEFT_THE_GPU
    from SAM3DSegmentLib.scan import read_scan
    from SAM3DSegmentLib.scene.export import check_target

    check_target(options.out)
    with Engine(options.model, options.device) as engine:
        engine.start()
        volume = read_scan(options.scan)
        clicks = [typed.on(volume) for typed in options.clicks or []]
        session = HeadlessSession(volume, engine)
        device = engine.device
        answers = list(session.answers(clicks))
        session.export(options.out)
        if engine.device != device:
            print(f"sam3dsegment: {LEFT_THE_GPU}", file=sys.stderr)
        if options.json:
            print(json.dumps(as_json(answers, engine, options.out)))
        else:
            print_table(answers)
            print(f"\n{options.out} ({engine.specification.name} on {engine.device})")


def run_demo(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.errors import ExportError, ScanError
    from SAM3DSegmentLib.headless import HeadlessSession
    from SAM3DSegmentLib.measure import dice
    from SAM3DSegmentLib.phantom import make_phantom
    from SAM3DSegmentLib.picture import draw_segmentation
    from SAM3DSegmentLib.scan import read_scan
    from SAM3DSegmentLib.scene.export import check_target

    if options.scan and not options.clicks:
        raise NoIncludeClickError("A scan needs a click: name a point inside the tumour with --include R,A,S.")
    if options.clicks and not options.scan:
        raise ScanError("Clicks need a scan: name it with --scan, or leave them out, as the phantom has its own.")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{options.out} cannot be made ({error.strerror}): choose another folder.") from error
    segmentation, picture = options.out / "tumour.seg.nrrd", options.out / "tumour.png"
    check_target(segmentation)
    with Engine(options.model, options.device) as engine:
        engine.start()
        reference = None
        if options.scan:
            volume = read_scan(options.scan)
            session = HeadlessSession(volume, engine)
            clicks = [typed.on(volume) for typed in options.clicks]
            answers = list(session.answers(clicks))
        else:
            phantom = make_phantom()
            lesion = phantom.lesions[DEMO_LESION]
            reference = phantom.reference(lesion)
            session = HeadlessSession(phantom.volume, engine)
            answers = refined(session, Click(lesion.click), reference)
        scores = [
            dice(a.prediction.mask, a.prediction.box, reference) if a.prediction and reference is not None else None
            for a in answers
        ]
        print_table(answers, scores)
        session.export(segmentation)
        last = answers[-1].prediction
        assert last is not None
        clicks = [answer.click for answer in answers]
        draw_segmentation(session.volume, last.box, last.mask, clicks, picture, reference)
        print(f"\n{segmentation} and {picture}")


def refined(session: HeadlessSession, first: Click, reference: BoolArray) -> list[Answer]:
    """The answer to a first click, then to an include click where the mask misses most, and an exclude click."""
    from SAM3DSegmentLib.morphology import deepest

    answers = [session.answer([first])]
    for include in (True, False):
        prediction = answers[-1].prediction
        assert prediction is not None
        mask = prediction.mask_on(reference.shape)
        wrong = reference & ~mask if include else mask & ~reference
        right = reference & mask if include else ~(reference | mask)
        click = Click(session.volume.ras(deepest(wrong if wrong.any() else right)), include)
        answers.append(session.answer([*(answer.click for answer in answers), click]))
    return answers


def run_view(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.viewer.server import ViewerOptions, run_viewer

    run_viewer(
        ViewerOptions(
            scan=options.scan,
            model=options.model,
            device=options.device,
            engine_command=tuple(options.engine_command),
            host=options.host,
            port=options.port,
            upload_limit=options.upload_limit * 1_000_000,
            browser=not options.no_browser,
        ),
        lambda text: print(text, flush=True),
    )


def run_info(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.replay import read_records

    records = read_records(options.file)
    if options.json:
        print(json.dumps({"file": str(options.file), "segments": [record.as_json() for record in records]}))
        return
    for record in records:
        print(record.name)
        for line in record.lines():
            print(f"  {line}")


def run_replay(options: argparse.Namespace) -> int:
    """0 where every segment comes out equal, 1 where one does not."""
    from SAM3DSegmentLib.replay import Recording, replay_all
    from SAM3DSegmentLib.scan import read_scan

    with Recording(options.file, read_scan(options.scan)) as recording:
        replayed = replay_all(recording, options.model, options.device)
    if options.json:
        segments = [{"segment": segment.name, **asdict(outcome)} for segment, outcome in replayed]
        print(json.dumps({"file": str(options.file), "segments": segments}))
    else:
        for segment, outcome in replayed:
            print(f"{segment.name}: {outcome}")
    return 0 if all(outcome.equal for _, outcome in replayed) else 1


def run_engine(options: argparse.Namespace) -> None:
    from SAM3DSegmentLib.engine.server import serve

    serve()


def as_json(answers: Sequence[Answer], engine: Engine, out: Path) -> dict[str, Any]:
    """What `segment --json` prints."""
    return {
        "clicks": [
            {
                "include": answer.click.include,
                "ras": answer.click.ras,
                "seconds": round(answer.seconds, 3),
                "volume_ml": round(answer.measurement.volume_ml, 3),
                "diameter_mm": round(answer.measurement.diameter_mm, 2),
            }
            for answer in answers
        ],
        "model": engine.specification.name,
        "model_sha256": engine.specification.sha256,
        "device": engine.device,
        "out": str(out),
    }


def print_table(answers: Sequence[Answer], scores: Sequence[float | None] = ()) -> None:
    """One line a click, with a word on one that changed nothing; a column of Dice where the truth is known."""
    known = any(score is not None for score in scores)
    print(f"{'click':>5}  {'kind':<7}  {'R, A, S (mm)':^24}  {'s':>5}  {'ml':>8}  {'mm':>6}" + "   Dice" * known)
    for number, answer in enumerate(answers, 1):
        position = ", ".join(f"{c:.1f}" for c in answer.click.ras)
        kind = "include" if answer.click.include else "exclude"
        figures = f"{answer.seconds:5.2f}  {answer.measurement.volume_ml:8.2f}  {answer.measurement.diameter_mm:6.1f}"
        score = f"  {scores[number - 1]:.3f}" if known else ""
        needless = answer.prediction is not None and answer.prediction.needless
        print(f"{number:>5}  {kind:<7}  {position:^24}  {figures}{score}" + "  no change: right already" * needless)


if __name__ == "__main__":
    sys.exit(main())
