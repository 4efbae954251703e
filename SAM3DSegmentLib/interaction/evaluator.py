"""The evaluator: one long-lived thread that answers the newest list of clicks of each tumour."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.errors import CancelledError, UserError
from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.tumour import Tumour
from SAM3DSegmentLib.measure import Measurement, measure
from SAM3DSegmentLib.prediction import Prediction
from SAM3DSegmentLib.segmenter import Segmenter
from SAM3DSegmentLib.specification import Specification
from SAM3DSegmentLib.start import Start

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """A list of clicks to evaluate.

    Attributes:
        tumour: that the answer is for; a newer job of the same tumour supersedes this one.
        clicks: in their order, at least one of them an include click.
        start: the mask to go on from; None where the clicks alone lead to the answer.
        submitted: when the user clicked, by `time.perf_counter`.
        cancelled: calls it off.
    """

    tumour: Tumour
    volume: Volume
    clicks: tuple[Click, ...]
    start: Start | None = None
    submitted: float = field(default_factory=time.perf_counter)
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Ready:
    """The engine has loaded its network, on that device."""

    device: str


@dataclass(frozen=True, eq=False)
class Answer:
    """What a job led to, by that model on that device."""

    job: Job
    prediction: Prediction
    measurement: Measurement
    model: Specification
    device: str


@dataclass(frozen=True)
class Failure:
    """One sentence for the user; without a job it is the engine that could not be started."""

    job: Job | None
    message: str


Outcome = Ready | Answer | Failure


class Evaluator:
    """Owns an engine and the thread that talks to it; the engine starts at once, in the background.

    `submit`, `cancel`, `forget`, `outcomes` and `close` are for the thread of the interface, and none of them waits.
    """

    def __init__(self, engine: Engine) -> None:
        self.fraction = 0.0
        """How much of the present network call is done."""
        self._engine = engine
        self._segmenter: Segmenter | None = None
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._wake = threading.Condition()
        self._waiting: dict[Tumour, Job] = {}
        self._running: Job | None = None
        self._wanted: tuple[str, str] | None = None
        self._has_model = False
        self._closed = False
        self._resting = False
        threading.Thread(target=self._run, name="SAM3DSegment evaluator", daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether it loads a model, or has a job."""
        return bool(self._waiting or self._wanted) or not self._resting

    @property
    def command(self) -> tuple[str, ...]:
        """That started the engine."""
        return self._engine.command

    def use_model(self, model: str, device: str) -> None:
        """Call everything off and load another model, which answers from then on; where it cannot, the present one."""
        with self._wake:
            self._call_all_off()
            self._wanted = model, device
            self._wake.notify()

    def submit(self, job: Job) -> None:
        """Evaluate a job, after those of other tumours; an earlier one of its own tumour is called off."""
        with self._wake:
            self._call_off(job.tumour)
            self._waiting[job.tumour] = job
            self._wake.notify()

    def cancel(self, tumour: Tumour) -> None:
        """Call the tumour's job off; no outcome follows."""
        with self._wake:
            self._call_off(tumour)

    def forget(self, volume: Volume) -> None:
        """Let go of a volume that is gone from the scene: its voxels may take gigabytes."""
        segmenter = self._segmenter
        if segmenter and segmenter.volume is volume:
            self._segmenter = None

    def outcomes(self) -> list[Outcome]:
        """What has come since the last call."""
        found = []
        while not self._outcomes.empty():
            found.append(self._outcomes.get())
        return found

    def close(self) -> None:
        """Call everything off and end the engine, in the background."""
        with self._wake:
            self._closed = True
            self._call_all_off()
            self._engine.give_up()
            self._wake.notify()

    def _call_all_off(self) -> None:
        for tumour in [*self._waiting, *([self._running.tumour] if self._running else [])]:
            self._call_off(tumour)

    def _call_off(self, tumour: Tumour) -> None:
        self._waiting.pop(tumour, None)
        if self._running and self._running.tumour is tumour:
            self._running.cancelled.set()

    def _run(self) -> None:
        self._report(None, self._start_engine)
        while self._answer_next():
            pass
        self._engine.close()

    def _answer_next(self) -> bool:
        """Whether there was a job or a model to load; nothing of a job outlives the call, not its volume."""
        job = self._next_job()
        if isinstance(job, Job):
            self._report(job, lambda: self._answer(job))
        elif job:
            self._report(None, lambda: self._load(*job))
        return job is not None

    def _next_job(self) -> Job | tuple[str, str] | None:
        """Waits for a job, or for the model that later ones are for; None once the evaluator is closed."""
        with self._wake:
            self._running = None
            while not self._waiting and not self._wanted and not self._closed:
                self._resting = True
                self._wake.wait()
            self._resting = False
            if self._closed:
                return None
            if self._wanted:
                wanted, self._wanted = self._wanted, None
                return wanted
            self._running = self._waiting.pop(next(iter(self._waiting)))
            return self._running

    def _report(self, job: Job | None, work: Callable[[], Outcome]) -> None:
        self.fraction = 0.0
        try:
            self._outcomes.put(work())
        except CancelledError:
            pass
        except UserError as error:
            logger.info("The evaluation failed: %s", error)
            self._outcomes.put(Failure(job, str(error)))
        except Exception as error:  # the thread's edge: it has to outlive a bug, and the user has to hear of it
            logger.exception("The evaluation failed")
            message = f"The segmentation failed ({error!r}). Your clicks are kept: see the log for details."
            self._outcomes.put(Failure(job, message))

    def _start_engine(self) -> Ready:
        self._engine.start()
        return self._ready()

    def _load(self, model: str, device: str) -> Ready | Failure:
        try:
            self._engine.load(model, device)
        except UserError as error:
            if not self._has_model:
                return Failure(None, str(error))
            self._outcomes.put(Failure(None, f"{error} Until then the model before it stays in use."))
            return self._ready()  # nobody tells its device any more
        self._segmenter = None
        return self._ready()

    def _ready(self) -> Ready:
        device = self._engine.device
        self._has_model = True
        return Ready(device)

    def _answer(self, job: Job) -> Answer:
        segmenter = self._segmenter
        if not segmenter or segmenter.volume is not job.volume:
            segmenter = self._segmenter = Segmenter(job.volume, self._engine)
        prediction = segmenter.segment(job.clicks, job.cancelled, self._progressed, job.start)
        measurement = measure(job.volume, prediction.mask)
        return Answer(job, prediction, measurement, self._engine.specification, self._engine.device)

    def _progressed(self, fraction: float) -> None:
        self.fraction = fraction
