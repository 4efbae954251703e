"""The viewer in a process of its own, with a line through which a test asks what its scene holds.

The child runs the real server; a question is one JSON line on its standard input, the answer one on its output.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from vtkmodules.vtkCommonMath import vtkMatrix4x4

from SAM3DSegmentLib.geometry import Volume

ROOT = Path(__file__).resolve().parents[2]
ANSWER = "answer:"


class ViewerProcess:
    """The parent's side: `viewer.ask("clicks")` is what `Answers.clicks` returns in the child."""

    def __init__(self, *arguments: str) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "Testing.viewer.process", "view", "--no-browser", "--port", "0", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": self.temporary.name, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.printed: list[str] = []
        self.address = self._line("Open ").split()[1]

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.address.partition("/?")[0]

    def ask(self, question: str, *arguments: Any) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([question, *arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self._line(ANSWER)[len(ANSWER) :])

    def mask(self) -> np.ndarray:
        """Of the present tumour, on the volume's grid [K, J, I]."""
        answer = self.ask("mask")
        bits = np.frombuffer(base64.b64decode(answer["bits"]), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(answer["shape"]))).reshape(answer["shape"]).astype(bool)

    def wait_for(self, question: str, accept: Callable[[Any], bool] = bool, seconds: float = 180) -> Any:
        """The first answer that is accepted."""
        end = time.monotonic() + seconds
        while not accept(answer := self.ask(question)):
            assert time.monotonic() < end, f"{question} is still {answer}; status: {self.ask('status')}"
            time.sleep(0.05)
        return answer

    def wait_for_folder_without(self, name: str, seconds: float = 60) -> None:
        """Until no file of that name is left in its temporary folder."""
        end = time.monotonic() + seconds
        while any(name in file for file in self.leftovers()):
            assert time.monotonic() < end, self.leftovers()
            time.sleep(0.05)

    def leftovers(self) -> list[str]:
        """Folders that it made for files in transit, and what is in them."""
        folder = Path(self.temporary.name)
        return [str(path.relative_to(folder)) for path in folder.rglob("sam3dsegment-*/**/*")] + [
            path.name for path in folder.glob("sam3dsegment-*")
        ]

    def end(self) -> None:
        """As Ctrl+C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def rest(self) -> list[str]:
        """What it printed that nobody has read, once it has ended."""
        assert self.process.stdout
        return list(self.process.stdout)

    def close(self) -> None:
        """End it if it still runs; its temporary folder goes too."""
        self.process.terminate()
        self.process.wait(30)
        self._log.close()
        self.temporary.cleanup()

    def _line(self, start: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(start):
                return line
            self.printed.append(line)
        self._log.seek(0)
        raise AssertionError(f"the viewer ended: {self._log.read()[-2000:]}")


class Answers:
    """The child's side: what a test may ask, on the event loop of the server."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._session = viewer.session

    def clicks(self) -> list[tuple[list[float], bool]]:
        """RAS mm and kind of each click of the present tumour."""
        return [(list(click.ras), click.include) for click in self._session.clicks]

    def mask(self) -> dict[str, Any]:
        from Testing.scene_helpers import on_grid

        shape = self._session.volume_node.GetImageData().GetDimensions()[::-1]
        full = on_grid(shape, self._session.tumour.target.mask())
        return {"shape": shape, "bits": base64.b64encode(np.packbits(full).tobytes()).decode()}

    def tumours(self) -> list[str]:
        from SAM3DSegmentLib.interaction.tumour_table import segment_ids

        return list(segment_ids(self._session.segmentation_node))

    def rows(self) -> list[dict[str, Any]]:
        """Id, name, colour and visibility of each tumour."""
        from SAM3DSegmentLib.viewer.viewer import tumours_of

        return tumours_of(self._session.segmentation_node)

    def display(self) -> dict[str, bool]:
        """What is drawn of the present tumour."""
        target = self._session.tumour.target
        node, scene = target.segmentation_node, target.volume_node.GetScene()
        return {
            "clicks": bool(self._session.lists.include.GetDisplayNode().GetVisibility()),
            "fill": bool(node.GetDisplayNode().GetVisibility2DFill()),
            "surface": bool(node.GetClosedSurfaceInternalRepresentation(target.segment_id)),
            "changes": bool(scene.GetFirstNodeByName("Last change")),
        }

    def engine(self) -> list[Any]:
        """Model, device and command of the present engine."""
        engine = self._session._updater._evaluator._engine
        return [engine._model, engine._device, list(engine._command)]

    def engine_starts(self) -> int:
        """How many engines were started since the beginning."""
        return self._viewer.engine_starts

    def use_slow_download(self, seconds: float) -> None:
        """Nothing is fetched: a file of zeros takes its time."""
        from SAM3DSegmentLib.interaction import background_download
        from SAM3DSegmentLib.models.store import models_folder

        def download(model: Any, progress: Callable[[int, int], None]) -> None:
            for step in range(100):
                progress(step, 100)
                time.sleep(seconds / 100)
            (models_folder() / model.file_name).write_bytes(bytes(100))

        background_download.download_model = download

    def settled(self) -> bool:
        """Whether every click has its mask."""
        tumour = self._session.tumour
        return not self._session._updater._jobs and not (tumour and tumour.changed)

    def volume(self) -> str:
        """The id of the volume that is clicked on; empty for none."""
        node = self._session.volume_node
        return node.GetID() if node else ""

    def shape(self) -> list[int]:
        """[K, J, I] of the volume that is clicked on."""
        return list(self._session.volume_node.GetImageData().GetDimensions()[::-1])

    def jump(self, ras: list[float]) -> None:
        """Turn the slice views to a point, which comes to lie in their middle."""
        for view in self._viewer._views._manager.get_slice_views():
            view.get_view_node().JumpSliceByCentering(*ras)

    def scroll_to(self, ras: list[float]) -> list[list[float]]:
        """Turn the slice views to a point; where it lies in each of them, as parts of their width and height."""
        places = []
        for view in self._viewer._views._manager.get_slice_views():
            node = view.get_view_node()
            node.JumpSliceByOffsetting(*ras)
            matrix = vtkMatrix4x4()
            vtkMatrix4x4.Invert(node.GetXYToRAS(), matrix)
            x, y, *_ = matrix.MultiplyPoint([*ras, 1.0])
            width, height, _ = node.GetDimensions()
            places.append([x / width, 1 - y / height])
        return places

    def kill_engine(self) -> None:
        self._session._updater._evaluator._engine._process._process.kill()

    def use_slow_engine(self, seconds: float) -> None:
        from SAM3DSegmentLib.engine.client import Engine

        self._session.use_engine(Engine(command=(sys.executable, "-m", "Testing.slow_engine", str(seconds))))

    def use_compact_engine(self) -> None:
        self._viewer._start_engine()

    def slice_offsets(self) -> list[float]:
        return [view.get_slice_value() for view in self._viewer._views._manager.get_slice_views()]

    def status(self) -> list[Any]:
        status = self._session.status
        return [status.message, status.failed, status.seconds]

    def loaded(self, module: str) -> bool:
        return module in sys.modules


@dataclass(frozen=True)
class BallScan:
    """A small oblique scan with a bright ball of 24 mm.

    Attributes:
        centre: of the ball, RAS mm.
    """

    path: Path
    centre: tuple[float, float, float]


def write_ball(folder: Path) -> BallScan:
    from Testing.scene_helpers import oblique

    grid = Volume(np.zeros((24, 60, 70), np.uint8), oblique())
    centre = grid.ras((8, 21, 45))
    k, j, i = np.indices(grid.voxels.shape)
    positions = np.stack([i, j, k, np.ones_like(i)], -1) @ grid.ijk_to_ras.T
    inside = np.linalg.norm(positions[..., :3] - centre, axis=-1) < 12
    voxels = np.random.default_rng(0).normal(0, 20, grid.voxels.shape) + 1000 * inside
    path = folder / "ball.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16).T, grid.ijk_to_ras), path)
    return BallScan(path, centre)


def serve_questions(viewer: Any) -> None:
    """Answer the lines of standard input from another thread, each on the event loop."""
    loop, answers = asyncio.get_running_loop(), Answers(viewer)

    async def answer(question: str, arguments: list[Any]) -> Any:
        return getattr(answers, question)(*arguments)

    def read() -> None:
        for line in sys.stdin:
            question, *arguments = json.loads(line)
            result = asyncio.run_coroutine_threadsafe(answer(question, arguments), loop).result()
            print(ANSWER + json.dumps(result), flush=True)

    threading.Thread(target=read, daemon=True).start()


def main() -> None:
    from SAM3DSegmentLib import cli
    from SAM3DSegmentLib.viewer import server

    class AskableViewer(server.Viewer):
        begun = False
        engine_starts = 0

        def _start_engine(self) -> None:
            self.engine_starts += 1
            super()._start_engine()

        def follow(self) -> None:
            if not self.begun:
                self.begun = True
                serve_questions(self)
            super().follow()

    server.Viewer = AskableViewer  # type: ignore[misc]
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
