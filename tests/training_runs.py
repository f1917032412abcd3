"""The inputs of a training, for tests of its parts."""

import torch

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.devices import Pieces
from faal_core.specs import FinetuneSpec
from faal_core.training.cells import use_classes
from faal_core.training.row_split import RowSplit
from faal_core.training.run import TrainingRun

_BLANK = LabelledImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3), ("a", "b", "c"), "blank", "train")


def training_run(spec: FinetuneSpec, data: LabelledImages = _BLANK, *, pieces: Pieces | None = None) -> TrainingRun:
    """Return a run on the CPU whose images all train and all validate."""
    rows = torch.arange(len(data))
    return TrainingRun(
        spec=spec,
        data=data,
        cells=use_classes(data),
        rows=RowSplit(rows, rows),
        device=torch.device("cpu"),
        pieces=pieces or Pieces(spec.training.batch_size),
    )
