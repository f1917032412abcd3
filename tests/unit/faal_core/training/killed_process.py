"""Train with every method, once without interruption and once killed ten times; run by test_kills.py.

`python killed_process.py OUT` imports torch and builds the network once, which takes seconds. It forks a process for each
life of a run.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.networks import build
from faal_core.progress import NoProgress
from faal_core.specs import ClassifierSpec, FinetuneSpec
from faal_core.training.recipe import train

METHODS: dict[str, dict[str, object]] = {
    "faal": {},
    "uniform": {},
    "frl": {"remargin_rate": 0.2},
    "cfa": {},
    "wat": {},
    "dafa": {"warmup_epochs": 1},
    "cfol": {"rate": 0.01},
    "fsr": {},
    "decosam": {},
}
TRAINING = {
    "learning_rates": [0.1, 0.1, 0.05],
    "batch_size": 10,
    "attack": {"steps": 1},
    "validation_fraction": 0.1,
    "averaging": {"decay": 0.8},
}
KILLS = 10
FORKED = multiprocessing.get_context("fork")


class ByteProgress(NoProgress):
    """Progress that sends a byte after each batch."""

    def __init__(self, listener: Connection) -> None:
        self._listener = listener

    def advance(self, count: int = 1) -> None:
        """Send one byte."""
        self._listener.send_bytes(b".")


@dataclass
class Life:
    """A process that trains from the last checkpoint, sends a byte after each batch, and writes its result."""

    classifier: Classifier
    data: LabelledImages
    spec: FinetuneSpec
    folder: Path

    def __post_init__(self) -> None:
        self._partial = self.folder / "training.partial"
        self._old_partial_time = (
            self._partial.stat().st_mtime_ns if self._partial.exists() else None
        )  # by the life before
        self.batches, listener = FORKED.Pipe(duplex=False)
        self.process = FORKED.Process(target=self._train, args=[listener])
        self.process.start()
        listener.close()

    def _train(self, listener: Connection) -> None:
        result = train(
            self.classifier,
            self.data,
            self.spec,
            device=torch.device("cpu"),
            checkpoint=self.folder / "training.pt",
            checkpoint_steps=2,
            progress=ByteProgress(listener),
        )
        rows = [row.model_dump(exclude={"seconds"}) for row in result.epochs]
        torch.save(
            {"weights": dict(result.best_epoch_weights), "interpolation": result.interpolation, "rows": rows},
            self.folder / "end.pt",
        )

    def kill_in_a_step(self, batches: int, after: float) -> None:
        """Kill the process `after` seconds after `batches` batches."""
        for _ in range(batches):
            self.batches.recv_bytes()
        time.sleep(after)
        self._kill()

    def kill_in_a_write(self) -> None:
        """Kill the process while a checkpoint is half-written: stop and continue it until the file exists."""
        self._stop()
        while not self.left_half_a_checkpoint:
            assert self.process.is_alive(), "it ended without a half-written checkpoint"
            os.kill(self.process.pid, signal.SIGCONT)
            time.sleep(0.0005)
            self._stop()
        self._kill()

    def _stop(self) -> None:
        """Stop the process, or wait for its end."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    @property
    def left_half_a_checkpoint(self) -> bool:
        """Return whether a half-written checkpoint exists that this life wrote."""
        return self._partial.exists() and self._partial.stat().st_mtime_ns != self._old_partial_time

    def _kill(self) -> None:
        """Kill the process, and check that the kill ended it and that its checkpoint can be read."""
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL, "it ended by itself"
        if (self.folder / "training.pt").exists():
            torch.load(self.folder / "training.pt", weights_only=True)

    def end(self) -> dict[str, Any]:
        """Wait for the end, and return the result and the number of batches."""
        count = 0
        try:
            while True:
                self.batches.recv_bytes()
                count += 1
        except EOFError:
            self.process.join()
        return {**torch.load(self.folder / "end.pt", weights_only=True), "batches": count}


def main(out: Path) -> None:
    """Write one file for each method: the results of both runs, and the number of half-written checkpoints after kills."""
    torch.set_num_threads(1)
    images = load("fashion-mnist-subset", "train")
    data = images.take(images.stratified(200, 0))
    torch.manual_seed(0)
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    for method, fields in METHODS.items():
        spec = FinetuneSpec.model_validate(
            {"threat": {"epsilon": 0.1}, "method": {"type": method, **fields}, "training": TRAINING}
        )
        folders = out / method / "undisturbed", out / method / "killed"
        for folder in folders:
            folder.mkdir(parents=True)
        start = time.monotonic()
        reference = Life(classifier, data, spec, folders[0]).end()
        seconds = (time.monotonic() - start) / reference["batches"]
        draws, half_written = random.Random(method), 0
        for kill in range(KILLS):
            life = Life(classifier, data, spec, folders[1])
            if kill % 3 == 2:
                life.kill_in_a_write()
            else:
                life.kill_in_a_step(draws.randrange(1, 15), draws.uniform(0, seconds))
            half_written += life.left_half_a_checkpoint
        continuation = Life(classifier, data, spec, folders[1]).end()
        ends = {"undisturbed": reference, "resumed": continuation, "half_written": half_written}
        torch.save(ends, out / f"{method}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
