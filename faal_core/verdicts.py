"""From units to one row an image: what the statistics of an audit are computed from."""

import numpy as np

from faal_core.ledger import CLEAN, Unit
from faal_core.per_class import UNBROKEN, Evaluation, Rows

_UNKNOWN = -1  # class of an image that was not looked at


class Verdicts:
    """What is known of each image so far; it grows unit by unit.

    Args:
        labels: true class of each image, in the order that units number them.
    """

    def __init__(self, labels: Rows) -> None:
        count = len(labels)
        self._labels = labels
        self._clean = np.full(count, _UNKNOWN)
        self._attacked, self._broken_by = np.full(count, _UNKNOWN), np.full(count, UNBROKEN)
        self._distance, self._clean_margin, self._margin = np.zeros(count), np.ones(count), np.ones(count)
        self._clean_lead, self._lead = np.full(count, np.inf), np.full(count, np.inf)
        self._sha256 = np.full(count, "", dtype=object)

    def undecided(self, margin_left: float | None = None) -> Rows:
        """Row numbers of the images that are right clean and unbroken so far, ascending.

        With `margin_left` only those whose label once led by at most that share of its lead, in logits, when clean.
        """
        undecided = (self._clean == self._labels) & (self._broken_by == UNBROKEN)
        if margin_left is not None:
            undecided &= self._lead <= margin_left * self._clean_lead
        return np.flatnonzero(undecided)

    def take_in(self, unit: Unit) -> int:
        """How many images the unit broke; from here on its verdicts count."""
        rows = np.array(unit.rows)
        predicted, margin = np.array(unit.predicted), np.array(unit.margin)
        self._margin[rows] = np.minimum(self._margin[rows], margin)
        self._lead[rows] = np.minimum(self._lead[rows], unit.lead)
        if unit.attack == CLEAN:
            self._clean[rows] = self._attacked[rows] = predicted
            self._clean_margin[rows], self._clean_lead[rows] = margin, unit.lead
            return 0
        hit = predicted != self._labels[rows]
        broken = rows[hit]
        self._attacked[broken], self._broken_by[broken] = predicted[hit], unit.attack
        self._distance[broken] = np.array(unit.distance)[hit]
        self._sha256[broken] = np.array(unit.sha256, dtype=object)[hit]
        return len(broken)

    def evaluation(self) -> Evaluation:
        """All rows; of images never looked at the predicted class is none."""
        return Evaluation(
            labels=self._labels,
            clean=self._clean,
            attacked=self._attacked,
            broken_by=self._broken_by,
            distance=self._distance,
            clean_margin=self._clean_margin,
            margin=self._margin,
            sha256=tuple(self._sha256),
        )
