"""The processes that train one classifier together, each with its share of every batch."""

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
_PATIENCE = timedelta(days=7)  # the other processes wait while the first one audits
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CPU = torch.device("cpu")
_WELL, _FAILED, _DIVERGED, _FULL = range(4)  # what a process tells the others, the worst counts


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this one is; a process on its own is the first of one.

    All draw the same random numbers for a whole batch and compute their share of it. What a batch is judged by is summed over
    them, so that every method sees the whole batch, and gradients are summed once a step: there is nothing that could overlap
    with ten passes of an attack, in which nothing is exchanged.

    Args:
        device: where this process computes.
    """

    number: int = 0
    count: int = 1
    device: torch.device = _CPU

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

    def told(self, by_first: bool) -> bool:
        """What the first process says, in each of them."""
        return bool(self.sum(torch.tensor(float(self.leads and by_first), device=self.device)))

    def sum_each(self, values: Iterable[Tensor]) -> None:
        """Nothing. Afterwards each of these tensors is its sum over the processes; they travel as one."""
        if self.count == 1:
            return
        found = list(values)
        together = self.sum(torch.cat([value.flatten() for value in found]))
        for value, total in zip(found, together.split([value.numel() for value in found]), strict=True):
            value.copy_(total.view_as(value))

    def whole(self, part: Tensor, rows: int) -> Tensor:
        """All rows, of which each process has its share."""
        if self.count == 1:
            return part
        gathered = part.new_zeros(rows, *part.shape[1:])
        gathered[self.share(rows)] = part
        return self.sum(gathered)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Within, each process computes by itself; afterwards all go on, or all raise where one has failed.

        Raises: what failed within; in the other processes OutOfMemory, TrainingDiverged or RuntimeError in its place.
        """
        try:
            yield
        except Exception as error:
            self._worst(_kind(error))
            raise
        worst = self._worst(_WELL)
        if worst == _FULL:
            raise OutOfMemory("A process that trains with this one has no room for its share of a batch.")
        if worst == _DIVERGED:
            raise TrainingDiverged("The numbers of a process that trains with this one became NaN or infinite.")
        if worst == _FAILED:
            raise RuntimeError("a process that trains with this one has failed")

    def require_same(self, what: str, *numbers: int) -> None:
        """Raises: InvalidSpec in all processes where the numbers are not the same in each; `what` says of what they are."""
        own = torch.tensor(numbers, dtype=torch.float64).to(self.device)
        least, most = (self._reduced(own, by) for by in (distributed.ReduceOp.MIN, distributed.ReduceOp.MAX))
        if not torch.equal(least, most):
            raise InvalidSpec(f"{what} is not the same for all processes that train together.")

    def level(self, classifier: Classifier) -> None:
        """Nothing. Afterwards the statistics of batch-norms, which each go by a process's share, are their means over all."""
        norms = [module for module in classifier.modules() if isinstance(module, _BATCH_NORMS)]
        kept = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
        if self.count > 1 and kept:
            self.sum_each(kept)
            for value in kept:
                value.div_(self.count)

    def _worst(self, kind: int) -> int:
        """The worst kind that any process tells."""
        if self.count == 1:
            return kind
        return int(self._reduced(torch.tensor(kind, device=self.device), distributed.ReduceOp.MAX))

    def _reduced(self, value: Tensor, by: distributed.ReduceOp.RedOpType) -> Tensor:
        reduced = value.clone()
        if self.count > 1:
            distributed.all_reduce(reduced, by)
        return reduced


ALONE = Ranks()


def _kind(error: Exception) -> int:
    """What the other processes are told of it."""
    if is_out_of_memory(error):
        return _FULL
    return _DIVERGED if isinstance(error, TrainingDiverged) else _FAILED


@contextmanager
def joined(environment: Mapping[str, str], device: torch.device) -> Iterator[Ranks]:
    """Within, the processes that `torchrun` started know one another, by NCCL on GPUs, one each, and by gloo on CPUs.

    Args:
        environment: of the process; without torchrun's variables it is on its own.
        device: where a process on its own computes; several have a GPU each where that is one.
    Raises: InvalidSpec where there are fewer GPUs than processes.
    """
    if not environment.keys() >= _TORCHRUN or environment["WORLD_SIZE"] == "1":
        yield Ranks(device=device)
        return
    place = int(environment["LOCAL_RANK"])
    if device.type == "cuda":
        if place >= torch.cuda.device_count():
            raise InvalidSpec(f"There are {torch.cuda.device_count()} GPUs here; start no more processes than that.")
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    yield Ranks(int(environment["RANK"]), int(environment["WORLD_SIZE"]), device)
    distributed.barrier()  # who leaves while another still listens may break that one's connection
    distributed.destroy_process_group()  # not after an error: NCCL would wait for the others, which wait for this one
