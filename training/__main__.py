"""The commands of training: `python -m training prepare | train | evaluate | export`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from SAM3DSegmentLib.errors import CancelledError, UserError

COMMANDS = {
    "prepare": "scans and masks, in the layout they came in, to a data set to train on",
    "train": "fine-tune an adapter, or train the compact network, on a prepared data set",
    "evaluate": "measure a model's quality with simulated users",
    "export": "a trained model to a file for the product, with its figures",
}
"""Each is a module of this package with `add_arguments(parser)` and `run(options)`; only the one asked for loads."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 where the user's input is at fault, with one line that says so."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    summaries = "\n".join(f"  {name:<9} {summary}" for name, summary in COMMANDS.items())
    top = argparse.ArgumentParser(
        "python -m training", description=summaries, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("command", choices=COMMANDS)
    name = top.parse_args(words[:1]).command
    module = import_module(f"training.{name}")
    parser = argparse.ArgumentParser(f"python -m training {name}", description=COMMANDS[name])
    module.add_arguments(parser)
    try:
        module.run(parser.parse_args(words[1:]))
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, CancelledError):
        print(f"{parser.prog}: cancelled", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
