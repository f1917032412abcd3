"""Prove for some images that no perturbation within the threat model changes their class, so that they need no attack.

`certify` decides whether that pays. `graph` reads the network, `layers` knows its operations, and `bounds` connects both.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from faal_core.auditing.certification.bounds import MarginBounds
from faal_core.auditing.certification.graph import Step, trace
from faal_core.auditing.evaluator import Evaluator
from faal_core.progress import Progress
from faal_core.results.ledger import CERTIFIED, BatchResult
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel

_SAMPLE = 16  # images that decide whether bounds pay
_SAMPLE_COST = 0.02  # most passes for the sample, as a fraction of those that the attacks may need
_PASSES = 5  # rough cost of pulling back one linear function, in passes, on networks of 50,000 to 170,000 parameters
_BATCH = 32  # images that are bounded at a time
_ROUNDING = 1e-4  # least proven margin, as a fraction of 1 + the largest logit: above the float32 errors of the network
_AGREEMENT = 1e-3  # largest difference of the traced network's logits, as a fraction of 1 + the largest logit


def certify(
    evaluator: Evaluator, threat: ThreatModel, specs: Sequence[AttackSpec], rows: Sequence[int], progress: Progress
) -> BatchResult:
    """Bound the margins of the images at `rows` that are classified correctly; the others are not in the result.

    `predicted` is the label of an image that is certified, and −1 for the others. `logit_margin` is the lower bound of the
    margin. `backward` counts the linear functions that were pulled back through the network, `forward` the clean predictions.

    The result is empty on a GPU, for networks with unknown operations, and where a sample shows that bounds cost more passes than
    they save. That depends on numbers of passes alone, so that an audit's repetition decides the same.

    Raises: Cancelled through `progress`.
    """
    start = time.monotonic()
    run = _Run(evaluator, threat, specs)
    correct, bounds = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    certified = torch.zeros(0, dtype=torch.bool)
    with torch.no_grad():
        if run.steps:
            correct = run.select_correct(torch.tensor(rows, dtype=torch.int64))
            sample = correct[torch.linspace(0, max(len(correct) - 1, 0), min(_SAMPLE, len(correct))).long()]
            limit = run.choose_limit(sample, len(correct))
            if limit is None:
                correct = correct[:0]
            else:
                progress.stage("certification", len(correct))
            parts = []
            for part in correct.split(_BATCH) if len(correct) else ():
                if progress.time_left() <= 0:
                    break
                parts.append(run.bound(part, limit or 0))
                progress.advance(len(part))
            if parts:
                bounds, certified = (torch.cat(values) for values in zip(*parts, strict=True))
            correct = correct[: len(bounds)]
    labels = evaluator.data.labels[correct]
    return BatchResult(
        attack=CERTIFIED,
        run=0,
        rows=tuple(correct.tolist()),
        predicted=tuple(torch.where(certified, labels, -1).tolist()),
        margin=(1.0,) * len(correct),
        logit_margin=tuple(bounds.tolist()),
        distance=(0.0,) * len(correct),
        sha256=("",) * len(correct),
        forward=run.forward,
        backward=run.pulled,
        seconds=time.monotonic() - start,
    )


class _Run:
    """Bounds the images of one audit, and counts the cost."""

    def __init__(self, evaluator: Evaluator, threat: ThreatModel, specs: Sequence[AttackSpec]) -> None:
        self._evaluator, self._threat = evaluator, threat
        classes = evaluator.classifier.num_classes
        self._least_rows = classes - 1
        self._attack_passes = sum(spec.passes(classes) for spec in specs if spec.margin_left is None)
        self.steps: tuple[Step, ...] = trace(evaluator.classifier) if evaluator.device.type == "cpu" else ()
        self.forward, self.pulled = 0, 0

    def select_correct(self, rows: Tensor) -> Tensor:
        """Return the rows of the images that are classified correctly."""
        parts = [
            part[self._predict(part).argmax(1) == self._evaluator.data.labels[part]] for part in rows.split(_BATCH)
        ]
        return torch.cat(parts)

    def choose_limit(self, sample: Tensor, images: int) -> int | None:
        """Return the most functions to pull back for an image, besides its margins, that save most passes; None to save none.

        Args:
            sample: rows of images that are classified correctly, of `images` such ones.
        """
        most = int(_SAMPLE_COST * self._attack_passes * images / (_PASSES * max(len(sample), 1)))
        if not len(sample) or self._least_rows > most or not self._agrees(sample):
            return None
        savings: dict[int, float] = {}
        for limit in (0, most):
            before = self.pulled
            certified = int(self.bound(sample, limit)[1].sum())
            savings[limit] = certified * self._attack_passes - _PASSES * (self.pulled - before)
        best = max(savings, key=savings.__getitem__)
        return best if savings[best] > 0 else None

    def bound(self, rows: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Return the lower bound of each image's margin, and whether that certifies the image."""
        bounds = MarginBounds(self.steps, self._threat, limit)
        values = bounds.bound(self._evaluator.pixels(rows).contiguous(), self._evaluator.data.labels[rows])
        self.pulled += bounds.pulled
        size = 1 + self._predict(rows).abs().amax(1)
        is_finite = values.isfinite()
        return values.nan_to_num(0.0, 0.0, 0.0), is_finite & (values > _ROUNDING * size)

    def _predict(self, rows: Tensor) -> Tensor:
        """Return the logits of images, and count their passes."""
        self.forward += len(rows)
        logits: Tensor = self._evaluator.classifier(self._evaluator.pixels(rows))
        return logits

    def _agrees(self, rows: Tensor) -> bool:
        """Return whether the traced steps compute the classifier's logits."""
        logits = self._predict(rows)
        traced = MarginBounds(self.steps, self._threat, 0).evaluate(self._evaluator.pixels(rows).contiguous())
        return bool(((logits - traced).abs() <= _AGREEMENT * (1 + logits.abs().amax())).all())
