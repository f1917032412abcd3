"""Choose how an evaluation is cut into batches, and how many processes compute them."""

import math
import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from faal_core.auditing.evaluator import Evaluator, freeze_weights
from faal_core.devices import require_room
from faal_core.specs import AttackSpec

_PIECES = 2  # batches whose images a CPU passes fastest at a time (`Classifier.images_in_cache`)
_LEAST_BATCH = 16  # images: fewer take a quarter longer in small networks (docs/decisions/0040-audits-by-shards.md)
_SMALL_BATCH = 32  # images: nearly as fast as many
_LEAST_PIECE = 4  # images, which a large network passes one by one in any case
_LEAST_SECONDS = 2.0  # of an audit in one process at most: a shorter one gains less than forked processes cost
_LEAST_SECONDS_OF_COPIES = 60.0  # the same where each process loads torch, and prepares a GPU
_ADVANTAGE = 1.1  # of the pace of processes over that of threads, below which threads are used
_OWN_BYTES = 150 * 2**20  # memory of a process beside the layers of its batch
_LAYERS = 3  # times the outputs of all layers: with their gradients and the working memory of convolutions
_MEMORY_FRACTION = 0.5  # of the available memory, that processes may take
_CGROUPS = Path("/sys/fs/cgroup")


def choose_batch_size(evaluator: Evaluator) -> int:
    """Return the most images of a batch, chosen by device, network and number of images.

    A GPU takes as many as the evaluator allows. A CPU takes fewer, so that there are batches for several processes; few are
    as fast there (docs/decisions/0040-audits-by-shards.md).
    """
    if evaluator.device.type != "cpu":
        return evaluator.batch_size
    images = len(evaluator.data)
    shared = max(images // 32, min(images // 8, _SMALL_BATCH), _LEAST_BATCH)
    piece = evaluator.classifier.images_in_cache(evaluator.data.images.shape[1:]) // _PIECES
    return min(evaluator.batch_size, shared, max(piece, _LEAST_PIECE))


def can_fork(device: torch.device) -> bool:
    """Return whether processes for that device can be forked.

    torch refuses gradients in a forked process where the machine has a GPU; other systems than Linux do not fork safely.
    """
    return device.type == "cpu" and sys.platform == "linux" and not torch.cuda.is_available()


def choose_processes(evaluator: Evaluator, specs: tuple[AttackSpec, ...]) -> int:
    """Return how many processes compute an evaluation fastest: 1, or one for each core or GPU.

    Cost: up to five forward and backward passes of one batch.
    """
    device, images, batch_size = evaluator.device, len(evaluator.data), choose_batch_size(evaluator)
    places = {"cpu": count_cores(), "cuda": torch.cuda.device_count() if device.index is None else 1}
    count = min(places.get(device.type, 1), math.ceil(images / batch_size))
    if count < 2:
        return 1
    with freeze_weights(evaluator.classifier), require_room(batch_size):
        trial = _Trial(evaluator, min(batch_size, images))
    passes = images * sum(spec.passes(evaluator.classifier.num_classes) for spec in specs)
    if passes * trial.seconds_per_pass < (_LEAST_SECONDS if can_fork(device) else _LEAST_SECONDS_OF_COPIES):
        return 1
    if device.type == "cuda":
        return count
    memory = _MEMORY_FRACTION * count_available_bytes()
    count = max(min(count, int(memory / (_OWN_BYTES + _LAYERS * trial.layer_bytes))), 1)
    return count if count * trial.seconds_threads > _ADVANTAGE * trial.seconds else 1


class _Trial:
    """Measures a forward and a backward pass of a batch.

    Attributes:
        layer_bytes: of the outputs of all layers.
        seconds, seconds_threads: with one thread, and with all threads of this process; the shorter of two measurements.
        seconds_per_pass: of one image with one thread.
    """

    def __init__(self, evaluator: Evaluator, images: int) -> None:
        size = min(images, evaluator.classifier.images_in_cache(evaluator.data.images.shape[1:]))
        x, threads = evaluator.pixels(torch.arange(size)), torch.get_num_threads()
        self.layer_bytes = 0

        def count_bytes(_module: nn.Module, _inputs: object, output: object) -> None:
            self.layer_bytes += output.element_size() * output.numel() if isinstance(output, Tensor) else 0

        hooks = [one.register_forward_hook(count_bytes) for one in evaluator.classifier.modules()]
        _measure(evaluator, x)  # the first pass also prepares layers and threads
        for hook in hooks:
            hook.remove()
        self.seconds_threads = min(_measure(evaluator, x) for _ in range(2))
        torch.set_num_threads(1)
        try:
            self.seconds = min(_measure(evaluator, x) for _ in range(2))
        finally:
            torch.set_num_threads(threads)
        self.seconds_per_pass = self.seconds / 2 / size


def _measure(evaluator: Evaluator, x: Tensor) -> float:
    """Return the seconds of a forward pass, and of a backward pass where the network has gradients."""
    start = time.perf_counter()
    logits = evaluator.classifier(x.requires_grad_())
    if logits.requires_grad:
        torch.autograd.grad(logits.sum(), x, allow_unused=True)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start


def count_cores() -> int:
    """Return how many cores this process may use: torch's threads (`OMP_NUM_THREADS`), within affinity and cgroup."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period, *_ = [*_read_words("cpu.max"), "max", "max"]
    if quota != "max" and period != "max":
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(min(cores, torch.get_num_threads()), 1)


def count_available_bytes() -> int:
    """Return the memory that this process can still take: of the machine, and of its cgroup; 2⁶² where it is unknown."""
    available = 2**62
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return available
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), available)
    limit, used = _read_words("memory.max"), _read_words("memory.current")
    if limit and used and limit[0] != "max":
        available = min(available, int(limit[0]) - int(used[0]))
    return available


def _read_words(name: str) -> list[str]:
    """Return the words in a file of the cgroup that a container sees as its own; none where there is no such file."""
    try:
        return (_CGROUPS / name).read_text("ascii").split()
    except OSError:
        return []
