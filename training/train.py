"""`python -m training train`: fine-tune the adapter network, or train the compact one, on a prepared data set.

The same command under `torchrun` shares each step among several GPUs or nodes. Interrupted, it goes on from where the
run was saved last.
"""

from __future__ import annotations

import argparse

from training import configuration as configurations
from training.dataset import PreparedDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configurations.add_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Train what the configuration names."""
    configuration = configurations.from_options(options)
    # Within the function: each network's training needs packages of its own.
    if configuration.network == "compact":
        from training.compact import train

        train.run(configuration)
        return
    from training.processes import joined
    from training.trainer import Trainer

    dataset = PreparedDataset.load(configuration.data)
    with joined() as processes:
        Trainer(configuration, dataset, processes).run()
