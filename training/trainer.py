"""One training run of the adapter network: steps, validations, and checkpoints that it can go on from."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from SAM3DSegmentLib.errors import CaseError
from SAM3DSegmentLib.network.adapter_predictor import is_fast_at_bfloat16
from SAM3DSegmentLib.network.metadata import Metadata
from training.adapters import prepare_to_train, trained_parameters
from training.best_checkpoint import frozen_of_run, save_best, save_start
from training.configuration import Configuration
from training.crops import Sample, TrainingCrops, validation_crop
from training.dataset import ANTIALIAS, PreparedCase, PreparedDataset, Split
from training.initial import initial_network
from training.processes import Processes
from training.run_log import DICE, RunLog
from training.run_state import Row, RunState, conditions_of, tensors_beside_backbone
from training.sessions import SimulatedSessions, answer_of

VALIDATION_CLICKS = (1, 3, 5)
VALIDATION_STREAM = 4
"""Which random numbers of the seed: the clicks in validation."""

LAST_RATE = 0.01
"""Of the learning rate, what the linear decay leaves."""

PICTURES = 3
"""Validation cases that are shown in TensorBoard."""


class Trainer:
    """A run in the folder `configuration.out`, new or going on from where it was saved last.

    Raises:
        CaseError: the data set lacks training or validation cases, or an array of theirs is damaged.
        CheckpointError: SAM's weights, or the saved state, cannot be read.
        ConfigurationError: the folder holds another run, or SAM's weights have other sizes.
        ExportError: the folder cannot be written.
    """

    def __init__(self, configuration: Configuration, dataset: PreparedDataset, processes: Processes) -> None:
        self.configuration = configuration
        self.dataset = dataset
        self.processes = processes
        self._training, self._validation = cases_of(dataset, "train"), cases_of(dataset, "validation")
        network = initial_network(configuration)
        self._conditions = conditions_of(configuration, processes.count, dataset.cases)
        state = RunState.load(configuration.out, self._conditions)
        if state is None and processes.rank == 0:
            self._backbone = save_start(network, configuration.out)
        prepare_to_train(network, configuration.adapter)
        self.network = network.to(processes.device)
        self.step = 0
        self.best = -1.0
        self.rows: list[Row] = []
        loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, lambda_dice=0.5, lambda_ce=0.5)
        self._sessions = SimulatedSessions(
            network, loss, configuration.clicks_per_sample, configuration.activation_checkpointing, configuration.seed
        )
        self._shared = processes.share(self._sessions)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            trained, configuration.learning_rate, weight_decay=configuration.weight_decay
        )
        if state is not None:
            self._go_on_from(state)
        bf16 = configuration.precision == "bf16" and is_fast_at_bfloat16(processes.device)
        self._precision = torch.autocast(processes.device.type, torch.bfloat16, enabled=bf16)

    @property
    def steps_per_epoch(self) -> int:
        samples = self.configuration.samples_per_epoch or len(self._training)
        return -(-samples // (self.configuration.batch_size * self.processes.count))

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.steps_per_epoch * self.configuration.epochs

    def run(self) -> None:
        """Train to the end; the folder holds `last.pt`, `best.safetensors`, the log and its pictures all along."""
        leads = self.processes.rank == 0
        log = RunLog(self.configuration.out, self.rows) if leads else None
        paper, additions = trained_parameters(self.network)
        if leads:
            print(
                f"{paper / 1e6:.2f} M trained parameters, and {additions / 1e6:.2f} M of the additions to the paper's"
            )
            if not self.configuration.backbone:
                print("no backbone is given: the frozen weights are random, not SAM's")
        if not self.rows:
            self._end_epoch({"step": 0.0}, log)
        losses: list[float] = []
        waited, started = 0.0, time.perf_counter()
        bar = tqdm(total=self.steps, initial=self.step, disable=not leads, unit="step", dynamic_ncols=True)
        batches = iter(self.batches())
        while self.step < self.steps:
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            losses.append(self.train(batch))
            bar.set_postfix(loss=f"{losses[-1]:.3f}", best=f"{self.best:.3f}", refresh=False)
            bar.update()
            if self.step % self.steps_per_epoch == 0:
                loss = self.processes.total(torch.tensor(losses, device=self.processes.device)).mean().item()
                row = {"step": float(self.step), "loss": loss / self.processes.count, "learning_rate": self.rate}
                self._end_epoch(row, log)
                losses = []
        bar.close()
        if log is not None:
            log.close()
            share = waited / max(time.perf_counter() - started, 1e-9)
            print(f"best mean validation Dice {self.best:.4f}; {share:.1%} of the time spent waiting for crops")

    @property
    def rate(self) -> float:
        """The learning rate of the next step: linear from the first step's to a hundredth of it."""
        return self.configuration.learning_rate * (1 - (1 - LAST_RATE) * min(1.0, self.step / max(1, self.steps - 1)))

    def train(self, samples: Sequence[Sample]) -> float:
        """One step on this process's samples; their mean loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        loss = self.gradients_of(samples)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.configuration.gradient_clip)
        self._optimizer.step()
        self.step += 1
        return loss

    def gradients_of(self, samples: Sequence[Sample]) -> float:
        """Give each parameter its gradient, averaged over the processes; the mean loss of this process's samples."""
        self._optimizer.zero_grad(set_to_none=True)
        with self._precision:
            loss: Tensor = self._shared(samples)
        loss.backward()
        return loss.item()

    @torch.no_grad()
    def validate(self) -> tuple[Row, list[tuple[Sample, Tensor]]]:
        """Mean Dice over the validation crops after each of `VALIDATION_CLICKS` (0: no clicks), and a few answers."""
        counts = VALIDATION_CLICKS if self.network.sizes.clicks else (0,)
        sums = torch.zeros(len(counts), dtype=torch.float64)
        shown = []
        for number in range(self.processes.rank, len(self._validation), self.processes.count):
            case = self._validation[number]
            sample = validation_crop(case, number, self.dataset.intensity, self.network.sizes.crop)
            rng = np.random.default_rng((self.configuration.seed, VALIDATION_STREAM, number))
            with self._precision:
                answers = [answer_of(a) for a in self._sessions.answers(sample, rng, max(counts), noisy_share=0)]
            chosen = [answers[max(count, 1) - 1].cpu() for count in counts]
            sums += torch.tensor([dice(answer, sample.target) for answer in chosen])
            if len(shown) < PICTURES:
                shown.append((sample, chosen[-1]))
        means = self.processes.total(sums.float().to(self.processes.device)) / len(self._validation)
        return {f"{DICE}_{count}": mean for count, mean in zip(counts, means.tolist(), strict=True)}, shown

    def batches(self) -> DataLoader[Sample]:
        """The batches of this process, from the current step to the last."""
        c, count = self.configuration, self.processes.count
        crops = TrainingCrops(self._training, self.dataset.intensity, self.network.sizes.crop, c.seed)
        firsts = [(step * count + self.processes.rank) * c.batch_size for step in range(self.step, self.steps)]
        numbers = [list(range(first, first + c.batch_size)) for first in firsts]
        return DataLoader(crops, batch_sampler=numbers, num_workers=c.workers, collate_fn=list)

    def _end_epoch(self, row: Row, log: RunLog | None) -> None:
        """Log an epoch (0: before the first step); where it is due, validate and save."""
        epoch = self.step // self.steps_per_epoch
        due = epoch % self.configuration.validation_every == 0 or self.step == self.steps
        scores, shown = self.validate() if due else ({}, [])
        if log is None:
            return
        log.add({**row, **scores})
        if not due:
            return
        log.add_pictures(shown)
        mean = float(np.mean(list(scores.values())))
        if mean > self.best:
            self.best = mean
            self.save_best(scores)
        self.save_state()
        log.write()

    def save_best(self, scores: Row) -> None:
        """Replace the best checkpoint; the earlier one stays until the new one is complete.

        Raises:
            ExportError: the folder cannot be written.
        """
        save_best(self.network, self._describe(scores), self._backbone, self.configuration)

    def save_state(self) -> None:
        """Replace the saved state; the earlier one stays until the new one is complete.

        Raises:
            ExportError: the folder cannot be written.
        """
        tensors = tensors_beside_backbone(self.network)
        optimizer = self._optimizer.state_dict()
        state = RunState(self._conditions, self.step, self._backbone, self.best, self.rows, tensors, optimizer)
        state.save(self.configuration.out)

    def _go_on_from(self, state: RunState) -> None:
        self._backbone = state.backbone_sha256
        frozen = frozen_of_run(self._backbone, self.configuration.out, self.network)
        self.network.load_state_dict({**frozen, **state.network})
        # A copy: the state's own tensors lie in the file, which is going to be replaced.
        self._optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        self.step, self.best, self.rows = state.step, state.best, state.rows

    def _describe(self, scores: Row) -> Metadata:
        """What the checkpoint says of itself."""
        patients = {case.patient for case in self._training}
        return Metadata(
            name=self.configuration.name,
            version=str(self.configuration.version),
            task=self.configuration.task,
            intensity=self.dataset.intensity,
            spacings=(self.dataset.spacing,),
            signed=True,
            antialias=ANTIALIAS,
            training_data=self.configuration.credited(
                f"{len(self._training)} scans of {len(patients)} patients, {self.step} steps"
            ),
            metrics=dict(scores),
            licence=self.configuration.licence,
        )


def cases_of(dataset: PreparedDataset, split: Split) -> tuple[PreparedCase, ...]:
    """The cases of a split, their files there and whole.

    Raises:
        CaseError: the split is empty, or a file is missing or damaged.
    """
    cases = dataset.of_split(split)
    if not cases:
        raise CaseError(
            f"{dataset.folder} has no {split} cases: prepare it again from more patients, or with another share."
        )
    for case in cases:
        case.image()
        case.mask()
    return cases


def dice(answer: Tensor, target: Tensor) -> float:
    """Overlap of the voxels above 0 with the target, both [S, S, S]."""
    mask = answer > 0
    return float(2 * (mask & target).sum() / (mask.sum() + target.sum()).clamp_min(1))
