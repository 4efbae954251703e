"""An engine process whose network takes its time: SECONDS [STEP] for each answer, in steps of 50 ms; -1 everywhere."""

import sys
import time

import numpy as np

from SAM3DSegmentLib.engine.server import serve
from SAM3DSegmentLib.intensity import CropStatistics
from SAM3DSegmentLib.specification import Specification

SECONDS, STEP = float(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.05


class SlowNetwork:
    specification = Specification("slow", "1", "0" * 64, 16, (1.0,), CropStatistics(), True, True)
    device = "cpu"

    def encode(self, crop, progress):
        print("a library that prints to standard output")
        return crop

    def decode(self, encoding, clicks, previous, progress):
        steps = round(SECONDS / STEP)
        for step in range(steps):
            progress(step / steps)
            time.sleep(STEP)
        return np.full((16, 16, 16), -1, np.float32)


serve(lambda model, device: SlowNetwork())
