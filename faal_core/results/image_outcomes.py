"""One row an image: what an audit saw of it, and how batch results add up to that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faal_core.results.ledger import CLEAN, Unit

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

UNBROKEN = -1  # in `broken_by`: every attack failed
_UNKNOWN = -1  # class of an image that was not looked at


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was seen of each image: one row each, the only thing statistics are computed from.

    Args:
        labels, clean: true and predicted class of the unperturbed image.
        attacked: predicted class of the adversarial image that broke it; `clean` where none did.
        broken_by: number of the attack that broke it; −1 where none did or where it was wrong already.
        distance: norm of the perturbation that broke it, 0 elsewhere.
        clean_margin, margin: probability of the label minus that of the likeliest other class, in [−1, 1]: of the image as
            it is, and the least that was seen.
        sha256: of the adversarial image that broke it; empty where none did.
    """

    labels: Rows
    clean: Rows
    attacked: Rows
    broken_by: Rows
    distance: NDArray[np.float64]
    clean_margin: NDArray[np.float64]
    margin: NDArray[np.float64]
    sha256: tuple[str, ...]

    @property
    def correct(self) -> Flags:
        """Which images are right without an attack."""
        return self.clean == self.labels

    def correct_after(self, attack: int) -> Flags:
        """Which images are right clean and after attacks 0..attack."""
        return self.correct & ((self.broken_by == UNBROKEN) | (self.broken_by > attack))

    @property
    def robust(self) -> Flags:
        """Which images are right clean and after every attack."""
        return self.correct & (self.broken_by == UNBROKEN)


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
