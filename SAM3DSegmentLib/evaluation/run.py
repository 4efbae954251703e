"""An evaluation from start to report: what is not in the ledger yet is run, this process's share of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from SAM3DSegmentLib.errors import EngineError
from SAM3DSegmentLib.evaluation.cases import Structure, digest_of_pair
from SAM3DSegmentLib.evaluation.ledger import Ledger, Task
from SAM3DSegmentLib.evaluation.predictor import Method
from SAM3DSegmentLib.evaluation.protocol import Trial, User, evaluate, follow
from SAM3DSegmentLib.evaluation.share import Share

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 3600.0
"""How long the process that writes the report waits for any trial of the others."""


@dataclass(frozen=True)
class Contender:
    """A method in an evaluation.

    Attributes:
        name: in the report.
        identity: a model's SHA-256 with version and device, or the version of the program for a classical method.
        leaders: trials whose very clicks it gets, on every structure with every user; without them its users correct
            its own answers.
    """

    name: str
    identity: str
    method: Method
    leaders: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What each contender has to do: meet every user on every structure.

    Attributes:
        data: the folder of `<case>_image.nii.gz` and `<case>_label.nii.gz`.
        count: clicks allowed on each structure.
        out: the folder of the ledger.
    """

    data: Path
    structures: tuple[Structure, ...]
    users: tuple[User, ...]
    count: int
    out: Path


def run_share(plan: Plan, contender: Contender, share: Share) -> list[Task]:
    """Run the trials of this process that no ledger in `plan.out` holds; a line for each goes to the standard error.

    Returns:
        The tasks of all processes, in the report's order.

    Raises:
        UserError: a case cannot be read, the network fails, or the ledger cannot be written.
    """
    ledger = Ledger(plan.out, share.rank)
    done = ledger.trials()
    own = set(share.of(plan.structures))
    digests = {case: digest_of_pair(plan.data, case) for case in {structure.case for structure in plan.structures}}
    tasks = []
    for structure in plan.structures:
        method = contender.name, contender.identity, digests[structure.case]
        asked = [Task(*method, structure, user, plan.count) for user in plan.users]
        tasks += asked
        due = [task for task in asked if task not in done]
        if not due or structure not in own:
            continue
        users = [task.user for task in due]
        if contender.leaders:
            led = {(task.structure, task.user): done[task] for task in contender.leaders if task in done}
            trials = follow(plan.data, contender.name, contender.method, [led[structure, user] for user in users])
        else:
            trials = evaluate(plan.data, [structure], {contender.name: contender.method}, users, plan.count)
        for task, trial in zip(due, trials, strict=True):
            ledger.add(task, trial)
            sys.stderr.write(line_of(trial))
    return tasks


def run_rival(plan: Plan, rival: Contender, model: Contender, leaders: tuple[Task, ...], share: Share) -> list[Task]:
    """Run a rival with users of its own and, where the model's trials are given, with the clicks of those.

    Raises:
        UserError: as `run_share`.
    """
    tasks = run_share(plan, rival, share)
    if leaders:
        name, identity = f"{rival.name}, {model.name}'s clicks", f"{rival.identity} after {model.identity}"
        tasks += run_share(plan, Contender(name, identity, rival.method, leaders), share)
    return tasks


def finished(plan: Plan, tasks: Sequence[Task]) -> list[Trial]:
    """The trials of all processes, as soon as the last one is there.

    Raises:
        EngineError: the other processes came to nothing.
    """
    ledger = Ledger(plan.out)
    known, since = -1, time.monotonic()
    while True:
        done = ledger.trials()
        if all(task in done for task in tasks):
            return [done[task] for task in tasks]
        if len(done) > known:
            known, since = len(done), time.monotonic()
        if time.monotonic() - since > PATIENCE_SECONDS:
            missing = sum(task not in done for task in tasks)
            raise EngineError(
                f"{missing} of {len(tasks)} trials are missing, and the other processes have finished none for an "
                "hour: run the same command again, what is finished is kept."
            )
        time.sleep(POLL_SECONDS)


def line_of(trial: Trial) -> str:
    """What the user sees of a trial while others run."""
    scores = " ".join(f"{step.dice:.2f}" for step in trial.steps)
    user = f"{trial.user.name} user {trial.user.seed}"
    return f"{trial.structure.case} {trial.structure.name}, {trial.method}, {user}: Dice {scores}\n"
