"""Build reports and comparisons from counts, quickly: simulations of gates need thousands."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from faal_core.results.documents import AuditReport, ClassRow, Interval, Rate, Spread
from faal_core.results.finetune_documents import ClassChange, Comparison
from faal_core.results.gates.baseline import PairedAudits
from tests.sample_reports import sample_audit

Counts = NDArray[np.int64]


@cache
def _template() -> AuditReport:
    return sample_audit(names=("a", "b"), robust=(0.5, 0.5), images=20)


def _rate(count: int, images: int) -> Rate:
    return Rate.model_construct(count=int(count), images=int(images), rate=count / images, low=0.0, high=1.0)


def make_report(
    robust: Sequence[int] | Counts,
    images: Sequence[int] | Counts,
    clean: Sequence[int] | Counts | None = None,
    names: Sequence[str] = (),
) -> AuditReport:
    """Return a report with those numbers of correct images per class; its own intervals are not computed."""
    clean = robust if clean is None else clean
    rows = tuple(
        ClassRow.model_construct(
            name=names[c] if names else f"class {c}",
            images=int(n),
            clean=_rate(clean[c], n),
            after_attack=(),
            robust=_rate(robust[c], n),
        )
        for c, n in enumerate(images)
    )
    return _template().model_copy(
        update={"classes": rows, "clean": _spread(clean, images), "robust": _spread(robust, images)}
    )


def _spread(correct: Sequence[int] | Counts, images: Sequence[int] | Counts) -> Spread:
    return _template().robust.model_copy(update={"mean": _rate(int(np.sum(correct)), int(np.sum(images)))})


def make_pair(
    cells: NDArray[np.int64], clean_cells: NDArray[np.int64] | None = None
) -> tuple[AuditReport, PairedAudits]:
    """Return an audit and its comparison with a baseline, from numbers of images.

    Args:
        cells: classes × 4, for robust accuracy: images that both classify correctly, that are lost, that are gained, and that
            neither classifies correctly.
        clean_cells: the same for clean accuracy; no image changes when absent.
    """
    if clean_cells is None:
        clean_cells = np.stack([cells.sum(axis=1), 0 * cells[:, 0], 0 * cells[:, 0], 0 * cells[:, 0]], axis=1)
    report = make_report(cells[:, 0] + cells[:, 2], cells.sum(axis=1), clean_cells[:, 0] + clean_cells[:, 2])
    return report, PairedAudits(report, _comparison(clean_cells), _comparison(cells))


def _comparison(cells: NDArray[np.int64]) -> Comparison:
    nothing = Interval(value=0, low=0, high=0)
    rows = tuple(
        ClassChange.model_construct(
            name=f"class {c}",
            before=(right + lost) / n,
            after=(right + gained) / n,
            gained=int(gained),
            lost=int(lost),
            p_value=1.0,
            p_adjusted=1.0,
            verdict="unclear",
        )
        for c, ((right, lost, gained, _), n) in enumerate(zip(cells, cells.sum(axis=1), strict=True))
    )
    return Comparison.model_construct(
        classes=rows, mean_change=nothing, worst_class_before="", worst_class_after="", worst_change=nothing
    )


def allowed_failures(probability: float, trials: int) -> float:
    """Return the number of failures that is three standard errors above the expected one."""
    return trials * probability + 3 * float(np.sqrt(trials * probability * (1 - probability)))
