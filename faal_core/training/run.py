"""The constants of one training, which every part of it receives: spec, data, device, ranks."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from faal_core.attacks.randomness import seed_from
from faal_core.auditing.processes import Executors
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.devices import Pieces
from faal_core.progress import NoProgress, Progress
from faal_core.specs import FinetuneSpec, TrainingSpec
from faal_core.training.cells import Cells
from faal_core.training.ranks import SINGLE_RANK, Ranks
from faal_core.training.row_split import RowSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """The inputs of one training; what changes from step to step is `TrainingState`.

    Args:
        data: the training data, which all row numbers refer to.
        cells: the cell of each image, by row number: its class, or its class × group cell.
        rows: the rows that are trained on, and those that validate.
        device: where this rank computes.
        pieces: cuts batches into pieces that fit into the device's memory, and remembers their size.
        limited: whether `progress` has a deadline, the same in every rank.
        reserve: seconds before the deadline at which the training ends.
        executors: open what validates for a single rank.
        checkpoint: file that the first rank replaces every `checkpoint_steps` steps and each epoch; None writes none.
        identity: digest of spec, data and given weights; a checkpoint of another identity is not resumed.
    """

    spec: FinetuneSpec
    data: LabelledImages
    cells: Cells
    rows: RowSplit
    device: torch.device
    pieces: Pieces
    progress: Progress = field(default_factory=NoProgress)
    ranks: Ranks = SINGLE_RANK
    limited: bool = False
    reserve: float = 0.0
    executors: Executors = field(default_factory=Executors)
    checkpoint: Path | None = None
    checkpoint_steps: int = 100
    identity: str = ""

    @property
    def training(self) -> TrainingSpec:
        """Return the spec of the training, without the audits around it."""
        return self.spec.training

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches an epoch.

        Batch-norm needs at least two images in each batch, so a batch may have one image more than its size.
        """
        images = len(self.rows.training)
        steps = math.ceil(images / self.training.batch_size)
        return steps if images // steps > 1 else max(images // 2, 1)

    def generator(self, *purpose: int | str) -> torch.Generator:
        """Return a random generator on the device, seeded by the spec's seed and the purpose."""
        return torch.Generator(self.device).manual_seed(seed_from(self.training.seed, *purpose))

    def shuffled_rows(self, epoch: int) -> Tensor:
        """Return the rows that are trained on in the order of that epoch, counted from 0."""
        generator = torch.Generator("cpu").manual_seed(seed_from(self.training.seed, "epoch", epoch))
        return self.rows.training[torch.randperm(len(self.rows.training), generator=generator)]

    def autocast(self) -> torch.autocast:
        """Return a context that computes convolutions and products in the spec's precision; logits stay float32."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.training.precision == "bfloat16", cache_enabled=False
        )

    def out_of_time(self) -> bool:
        """Return whether no more time is left than the reserve, by the clock of the first rank."""
        return self.limited and self.ranks.broadcast(self.progress.time_left() <= self.reserve)
