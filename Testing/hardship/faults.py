"""The long version of the tests of faults: an engine that is killed, damaged messages and files, a slow link."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from SAM3DSegmentLib.clicks import Click
from SAM3DSegmentLib.engine.client import Engine
from SAM3DSegmentLib.phantom import make_phantom
from SAM3DSegmentLib.segmenter import Segmenter
from Testing import messages, ssh_server
from Testing.disturbance import LIGHT, Killer, click_through
from Testing.mutations import outcomes_of, wrong
from Testing.ssh_server import SshServer
from Testing.throttle import Throttle

ROOT = Path(__file__).resolve().parents[2]
KILLS = 200
MESSAGES = 20_000
MUTANTS = {"nii": 500, "nii.gz": 400, "nrrd": 400, "mha": 100, "safetensors": 400, "json": 200}
LINK_BITS = 10_000_000
LINK_DELAY = 0.02


def kills() -> bool:
    """200 clicks in ten tumours, the engine killed once at a random moment of each."""
    with Engine(command=LIGHT) as engine:
        calm = click_through(engine, KILLS)
    with Engine(command=LIGHT) as engine:
        killer = Killer(engine, 2 * statistics.median(calm.waits), seed=0)
        disturbed = click_through(engine, KILLS, killer)
    same = disturbed.same_masks(calm)
    print(
        f"kills: {KILLS} clicks, {killer.kills} kills, {engine.restarts} restarts, {disturbed.lost_clicks()} clicks "
        f"lost, {len(disturbed.failures)} failures shown, final masks {'equal' if same else 'DIFFERENT'}, wait for a "
        f"mask median {statistics.median(calm.waits):.2f} s undisturbed, {statistics.median(disturbed.waits):.2f} s "
        f"killed, longest {max(disturbed.waits):.2f} s"
    )
    return same and not disturbed.lost_clicks() and not disturbed.failures


def fuzzed_messages() -> bool:
    """20,000 generated messages: half to the engine, a quarter each to its client and to the parser."""
    start = time.monotonic()
    tried = (
        messages.tried_on_the_engine(MESSAGES // 2),
        messages.tried_on_the_client(MESSAGES // 4),
        messages.tried_as_bytes(MESSAGES // 4),
    )
    print(
        f"messages: {tried[0]} requests to the engine, {tried[1]} lists of answers to the client, {tried[2]} byte "
        f"strings to the parser: each answered, told or refused as it should, {time.monotonic() - start:.0f} s"
    )
    return sum(tried) >= MESSAGES


def mutated_files() -> bool:
    """2,000 damaged files, loaded in processes with a limit on their memory."""
    fine = True
    for kind, count in MUTANTS.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcomes = outcomes_of(kind, count, Path(folder))
        told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
        print(f"files: {kind}: {count} mutants: {told}; {time.monotonic() - start:.0f} s", flush=True)
        fine = fine and not wrong(outcomes)
    return fine


def slow_link() -> bool:
    """The compact network behind sshd and a link of 10 Mbit/s and 20 ms each way; its start is not in the figures."""
    reason = ssh_server.missing()
    if reason:
        print(f"link: not measured ({reason})")
        return True
    phantom = make_phantom()
    middle = np.array(phantom.lesions[0].click)
    clicks = [Click(tuple(middle + offset)) for offset in ((0, 0, 0), (8, 0, 0), (0, -8, 0), (0, 0, 8))]
    with tempfile.TemporaryDirectory() as folder:
        server = SshServer(Path(folder))
        link = Throttle(server.port, LINK_BITS, LINK_DELAY)
        remote = f"cd '{ROOT}' && exec '{sys.executable}' -m SAM3DSegmentLib.engine"
        with Engine(device="cpu", command=server.command(remote, port=link.port), patience=120) as engine:
            segmenter = Segmenter(phantom.volume, engine)
            _ = engine.specification
            figures = []
            for count in range(1, len(clicks) + 1):
                before, start = link.sent, time.monotonic()
                segmenter.segment(clicks[:count])
                figures.append((time.monotonic() - start, link.sent - before))
        link.close()
        server.close()
    first, later = figures[0], figures[1:]
    print(
        f"link: first click {first[0]:.2f} s and {first[1]} bytes sent; later clicks "
        + ", ".join(f"{seconds:.2f} s and {sent} bytes" for seconds, sent in later)
    )
    return first[0] <= 10
