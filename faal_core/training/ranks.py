"""The processes that train one classifier together, each with its share of every batch."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
from torch import Tensor, distributed, nn

from faal_core.classifier import Classifier

_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_PATIENCE = timedelta(days=7)  # the other processes wait while the first one audits


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this one is; a process on its own is the first of one.

    All draw the same random numbers for a whole batch and compute their share of it. What a batch is judged by is summed over
    them, so that every method sees the whole batch, and gradients are summed once a step: there is nothing that could overlap
    with ten passes of an attack, in which nothing is exchanged.
    """

    number: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that tells of progress, keeps checkpoints and reports."""
        return self.number == 0

    def share(self, rows: int) -> slice:
        """What this process has of so many rows; the parts differ by at most one row."""
        return slice(rows * self.number // self.count, rows * (self.number + 1) // self.count)

    def sum(self, value: Tensor) -> Tensor:
        """`value` itself, summed over the processes, in each of them."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def whole(self, part: Tensor, rows: int) -> Tensor:
        """All rows, of which each process has its share."""
        if self.count == 1:
            return part
        gathered = part.new_zeros(rows, *part.shape[1:])
        gathered[self.share(rows)] = part
        return self.sum(gathered)

    def prepared(self, classifier: Classifier) -> Classifier:
        """The classifier with batch-norms that go by the whole batch, where GPUs share one; on CPUs each goes by its share."""
        if self.count == 1 or classifier.device.type != "cuda":
            return classifier
        return cast(Classifier, nn.SyncBatchNorm.convert_sync_batchnorm(classifier))

    def level(self, statistics: Iterable[Tensor]) -> None:
        """Nothing. Afterwards each of these tensors is its mean over the processes; whole numbers are the same in all anyway."""
        for value in statistics:
            if self.count > 1 and value.is_floating_point():
                self.sum(value).div_(self.count)


ALONE = Ranks()


@contextmanager
def joined(environment: Mapping[str, str], device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Within, the processes that `torchrun` started know one another, by NCCL on GPUs, one each, and by gloo on CPUs.

    Args:
        environment: of the process; without torchrun's variables it is on its own.
        device: of the first process.
    """
    if not environment.keys() >= _TORCHRUN or environment["WORLD_SIZE"] == "1":
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(environment["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    yield Ranks(int(environment["RANK"]), int(environment["WORLD_SIZE"])), device
    distributed.destroy_process_group()  # not after an error: NCCL would wait for the others, which wait for this one
