"""Prove for some images that no perturbation within the threat model changes their class, so that they need no attack.

`certify` decides whether bounds cost less than they save.
`graph` reads the network, `layers` knows its operations, and `bounds` connects both.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from faal_core.auditing.certification.bounds import MarginBounds
from faal_core.auditing.certification.graph import trace
from faal_core.auditing.evaluator import Evaluator
from faal_core.devices import full_float32
from faal_core.progress import Progress
from faal_core.results.ledger import CERTIFIED, BatchResult
from faal_core.specs import AttackSpec
from faal_core.threat_model import Norm, ThreatModel

_SAMPLE = 16  # images that decide whether bounds pay
_SAMPLE_COST = 0.02  # most passes for the sample, as a fraction of those that the attacks may need
_PASSES = 5  # rough cost of pulling back one linear function, in passes, on networks of 50,000 to 170,000 parameters
_BATCH = 32  # most images that are bounded at a time
_NUMBERS = 2**24  # of the outputs of all steps that are bounded at a time: 128 MiB for both bounds
_ROUNDING = 1e-4  # least proven margin, as a fraction of 1 + the largest logit: above the float32 errors of the network
_AGREEMENT = (
    3e-5  # largest difference of an image's logits in the traced network, as a fraction of 1 + the largest logit
)

# What operations raise for shapes that they do not accept, or without memory. Cancelled is none of them.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, MemoryError)


def certify(
    evaluator: Evaluator, threat: ThreatModel, specs: Sequence[AttackSpec], rows: Sequence[int], progress: Progress
) -> BatchResult | None:
    """Bound the margins of the images at `rows` that are classified correctly; the others are not in the result.

    `predicted` is the label of an image that is certified, and −1 for the others. `logit_margin` is the lower bound of the
    margin. `backward` counts the linear functions that were pulled back through the network, `forward` the clean predictions.

    The result is empty on a GPU, for networks that do not compute in float32 or have unknown operations, and where a sample
    shows that bounds cost more passes than they save. That depends on numbers of passes alone, so that an audit's repetition
    decides the same.

    Returns: None where the time is over before all images are bounded.
    Raises: Cancelled through `progress`.
    """
    start = time.monotonic()
    run = _Run(evaluator, threat, specs)
    try:
        with torch.no_grad(), full_float32():
            bounded = run.bound_all(torch.tensor(rows, dtype=torch.int64), progress)
    except _FAILURES:  # own code may do what its trace does not show
        bounded = _NONE
    if bounded is None:
        return None
    labels, images = evaluator.data.labels[bounded.rows], len(bounded.rows)
    return BatchResult(
        attack=CERTIFIED,
        run=0,
        rows=tuple(bounded.rows.tolist()),
        predicted=tuple(torch.where(bounded.certified, labels, -1).tolist()),
        margin=(1.0,) * images,
        logit_margin=tuple(bounded.bounds.tolist()),
        distance=(0.0,) * images,
        sha256=("",) * images,
        forward=run.forward,
        backward=run.pulled,
        seconds=time.monotonic() - start,
    )


class _Bounded(NamedTuple):
    """Holds the rows of images, lower bounds of their margins, and whether these certify them; `n` each."""

    rows: Tensor
    bounds: Tensor
    certified: Tensor


_NONE = _Bounded(torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, dtype=torch.bool))


class _Run:
    """Bounds the images of one audit, and counts the cost."""

    def __init__(self, evaluator: Evaluator, threat: ThreatModel, specs: Sequence[AttackSpec]) -> None:
        self._evaluator, self._threat = evaluator, threat
        classes = evaluator.classifier.num_classes
        self._margins = classes - 1
        self._attack_passes = sum(spec.passes(classes) for spec in specs if spec.margin_left is None)
        self.forward, self.pulled = 0, 0

    def bound_all(self, rows: Tensor, progress: Progress) -> _Bounded | None:
        """Return the bounds of the images that are classified correctly; none where they do not pay.

        Returns: None where the time is over before.
        """
        chosen = self._choose_bounds(rows)
        if chosen is None:
            return _NONE
        bounds, size = chosen
        progress.stage("certification", len(rows))
        parts = [_NONE]
        for part in rows.split(size):
            if progress.time_left() <= 0:
                return None
            parts.append(self._bound(bounds, self._select_correct(part)))
            progress.advance(len(part))
        return _Bounded(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _choose_bounds(self, rows: Tensor) -> tuple[MarginBounds, int] | None:
        """Return the bounds that save most passes, and the number of images at a time; None where none saves any."""
        steps = trace(self._evaluator.classifier) if self._evaluator.device.type == "cpu" and len(rows) else ()
        budget = int(_SAMPLE_COST * self._attack_passes * len(rows) / _PASSES)  # functions, of all images of the sample
        norm_rows = budget // 2 if self._threat.norm is Norm.L2 else 0
        most = (budget - norm_rows) // _SAMPLE - 2 * self._margins  # of an image, besides the margins of both trials
        if not steps or most < 0:
            return None
        bounds = MarginBounds(steps, self._threat, 0, norm_rows)
        size = min(_NUMBERS // bounds.count_numbers(self._pixels(rows[:1])), _BATCH)
        if not size:
            return None
        sample = self._select_correct(rows[torch.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).long()])
        savings: dict[int, float] = {}
        for limit in dict.fromkeys((0, most)):
            before = self.pulled, self.forward
            parts = [self._bound(bounds.limit_rows(limit), part) for part in sample.split(size)] if len(sample) else []
            certified = sum(int(part.certified.sum()) for part in parts)
            cost = _PASSES * (self.pulled - before[0]) + self.forward - before[1]
            savings[limit] = certified * self._attack_passes - cost
        best = max(savings, key=savings.__getitem__)
        return (bounds.limit_rows(best), size) if savings[best] > 0 else None

    def _select_correct(self, rows: Tensor) -> Tensor:
        """Return the rows of the images that are classified correctly."""
        return rows[self._predict(rows).argmax(1) == self._evaluator.data.labels[rows]]

    def _bound(self, bounds: MarginBounds, rows: Tensor) -> _Bounded:
        """Bound images. One whose logits in the traced network differ from the classifier's is not certified."""
        if not len(rows):
            return _NONE
        x, before = self._pixels(rows), bounds.pulled
        values = bounds.bound(x, self._evaluator.data.labels[rows])
        self.pulled += bounds.pulled - before
        logits = self._predict(rows)
        size = 1 + logits.abs().amax(1)
        agrees = (logits - bounds.evaluate(x)).abs().amax(1) <= _AGREEMENT * size
        certified = values.isfinite() & agrees & (values > _ROUNDING * size)
        return _Bounded(rows, values.nan_to_num(0.0, 0.0, 0.0), certified)

    def _pixels(self, rows: Tensor) -> Tensor:
        return self._evaluator.pixels(rows).contiguous()

    def _predict(self, rows: Tensor) -> Tensor:
        """Return the logits of images, and count their passes."""
        self.forward += len(rows)
        logits: Tensor = self._evaluator.classifier(self._evaluator.pixels(rows))
        return logits
