"""`python -m training evaluate`: the command `sam3dsegment evaluate`, here beside the others of training."""

from __future__ import annotations

import argparse

from SAM3DSegmentLib.cli import add_engine
from SAM3DSegmentLib.evaluation import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_arguments(parser)
    add_engine(parser)


run = command.run
