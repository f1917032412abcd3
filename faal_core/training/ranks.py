"""The ranks: processes that train one classifier together, each on its shard of every batch."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec, OutOfMemory, TrainingDiverged
from faal_core.errors.memory_exhaustion import is_out_of_memory

_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_TIMEOUT = timedelta(days=7)  # the other ranks wait while the first one audits
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CPU = torch.device("cpu")
_OK, _FAILED, _DIVERGED, _OUT_OF_MEMORY = range(4)  # status of a rank; the greatest counts


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of this process among `count` of them; a single process has rank 0.

    All ranks draw the same random numbers for a whole batch, and each computes its shard of it. Logits are gathered, so that
    every method sees the whole batch. Gradients are summed once a step: the attack, which takes most of the time, exchanges
    nothing that the sum could overlap with.

    Args:
        device: where this rank computes.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    @property
    def is_leader(self) -> bool:
        """Return whether this rank reports progress and writes checkpoints and reports."""
        return self.rank == 0

    def shard(self, rows: int) -> slice:
        """Return this rank's part of `rows` rows; the parts of the ranks differ by at most one row."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def sum(self, value: Tensor) -> Tensor:
        """Sum a tensor over the ranks in place, and return it."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def broadcast(self, flag: bool) -> bool:
        """Return the leader's flag in every rank."""
        return bool(self.sum(torch.tensor(float(self.is_leader and flag), device=self.device)))

    def sum_each(self, values: Iterable[Tensor]) -> None:
        """Sum each of these tensors over the ranks in place; they are exchanged as one."""
        if self.count == 1:
            return
        tensors = list(values)
        sums = self.sum(torch.cat([value.flatten() for value in tensors]))
        for value, total in zip(tensors, sums.split([value.numel() for value in tensors]), strict=True):
            value.copy_(total.view_as(value))

    def gather(self, shard: Tensor, rows: int) -> Tensor:
        """Return all `rows` rows, of which each rank has its shard."""
        if self.count == 1:
            return shard
        gathered = shard.new_zeros(rows, *shard.shape[1:])
        gathered[self.shard(rows)] = shard
        return self.sum(gathered)

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """Raise at the end of the block in every rank, where one rank has failed inside it.

        Raises: the error of the block; in the other ranks OutOfMemory, TrainingDiverged or RuntimeError in its place.
        """
        try:
            yield
        except Exception as error:
            self._worst_status(_status(error))
            raise
        worst = self._worst_status(_OK)
        if worst == _OUT_OF_MEMORY:
            raise OutOfMemory("A process that trains with this one has no memory for its part of a batch.")
        if worst == _DIVERGED:
            raise TrainingDiverged("The numbers of a process that trains with this one became NaN or infinite.")
        if worst == _FAILED:
            raise RuntimeError("a process that trains with this one has failed")

    def require_same(self, subject: str, *numbers: int) -> None:
        """Check that all ranks have the same numbers. Raises: InvalidSpec in all of them, with the `subject` that differs."""
        own = torch.tensor(numbers, dtype=torch.float64).to(self.device)
        least, most = (
            self._reduce(own, operation) for operation in (distributed.ReduceOp.MIN, distributed.ReduceOp.MAX)
        )
        if not torch.equal(least, most):
            raise InvalidSpec(f"{subject} is not the same for all processes that train together.")

    def average_batch_norm(self, classifier: Classifier) -> None:
        """Average batch-norm's running statistics over the ranks, each of which has seen its shards alone."""
        norms = [module for module in classifier.modules() if isinstance(module, _BATCH_NORMS)]
        statistics = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
        if self.count > 1 and statistics:
            self.sum_each(statistics)
            for value in statistics:
                value.div_(self.count)

    def _worst_status(self, status: int) -> int:
        """Return the worst status of any rank."""
        if self.count == 1:
            return status
        return int(self._reduce(torch.tensor(status, device=self.device), distributed.ReduceOp.MAX))

    def _reduce(self, value: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
        """Return the value reduced over the ranks."""
        reduced = value.clone()
        if self.count > 1:
            distributed.all_reduce(reduced, operation)
        return reduced


SINGLE_RANK = Ranks()


def _status(error: Exception) -> int:
    """Return the status that the other ranks receive for an error."""
    if is_out_of_memory(error):
        return _OUT_OF_MEMORY
    return _DIVERGED if isinstance(error, TrainingDiverged) else _FAILED


@contextmanager
def join_ranks(environment: Mapping[str, str], device: torch.device) -> Iterator[Ranks]:
    """Connect the processes that `torchrun` started, inside the block: by NCCL on GPUs, one each, and by gloo on CPUs.

    Args:
        environment: of the process; without torchrun's variables it is a single rank.
        device: where a single rank computes; where it is a GPU, each of several ranks has a GPU of its own.
    Raises: InvalidSpec where there are fewer GPUs than processes.
    """
    if not environment.keys() >= _TORCHRUN or environment["WORLD_SIZE"] == "1":
        yield Ranks(device=device)
        return
    local_rank = int(environment["LOCAL_RANK"])
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InvalidSpec(f"There are {torch.cuda.device_count()} GPUs here; start no more processes than that.")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    yield Ranks(int(environment["RANK"]), int(environment["WORLD_SIZE"]), device)
    distributed.barrier()  # a rank that leaves early may break the connections of the others
    distributed.destroy_process_group()  # not after an error: NCCL would wait for the others, which wait for this one
