"""Turn batch results into one outcome per image: `ImageOutcomes` adds up batches, `Evaluation` holds the finished rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faal_core.results.ledger import CERTIFIED, CLEAN, BatchResult

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

UNBROKEN = -1  # value of `broken_by` where no attack broke the image
_UNKNOWN = -1  # class of an image that was not evaluated


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Holds one row per image; all statistics are computed from these rows alone.

    Args:
        labels, clean: true and predicted class of the unperturbed image.
        attacked: predicted class of the adversarial image that broke the image; `clean` where no attack broke it.
        broken_by: number of the attack that broke the image, from 0; −1 where none did or the image was misclassified
            clean.
        distance: norm of the perturbation that broke the image; 0 where no attack broke it.
        clean_margin, margin: probability of the label minus that of the likeliest other class, in [−1, 1]: of the clean
            image, and the smallest over the clean image and all attacks.
        sha256: SHA-256 of the adversarial image that broke the image; empty where no attack broke it.
        certified: whether a bound proves that no perturbation within the threat model changes the class, so that the image was
            not attacked; None where no bounds were computed.
    """

    labels: Rows
    clean: Rows
    attacked: Rows
    broken_by: Rows
    distance: NDArray[np.float64]
    clean_margin: NDArray[np.float64]
    margin: NDArray[np.float64]
    sha256: tuple[str, ...]
    certified: Flags | None = None

    @property
    def correct(self) -> Flags:
        """Return which images are classified correctly without an attack."""
        return self.clean == self.labels

    def correct_after(self, attack: int) -> Flags:
        """Return which images are classified correctly clean and after attacks 0..attack."""
        return self.correct & ((self.broken_by == UNBROKEN) | (self.broken_by > attack))

    @property
    def robust(self) -> Flags:
        """Return which images are classified correctly clean and after every attack."""
        return self.correct & (self.broken_by == UNBROKEN)


class ImageOutcomes:
    """Holds the outcome of each image so far: clean, broken by an attack, or undecided. Grows batch by batch.

    Args:
        labels: true class of each image; batch results refer to images by their places here.
    """

    def __init__(self, labels: Rows) -> None:
        count = len(labels)
        self._labels = labels
        self._clean = np.full(count, _UNKNOWN)
        self._attacked, self._broken_by = np.full(count, _UNKNOWN), np.full(count, UNBROKEN)
        self._distance, self._clean_margin, self._margin = np.zeros(count), np.ones(count), np.ones(count)
        self._clean_logit_margin, self._logit_margin = np.full(count, np.inf), np.full(count, np.inf)
        self._sha256 = np.full(count, "", dtype=object)
        self._certified: Flags | None = None

    def find_undecided(self, margin_left: float | None = None) -> Rows:
        """Return the row numbers of all images that are undecided, ascending; `are_undecided` has the condition."""
        return np.flatnonzero(self.are_undecided(np.arange(len(self._labels)), margin_left))

    def are_undecided(self, rows: Rows, margin_left: float | None = None) -> Flags:
        """Return which images at `rows` are classified correctly clean, unbroken so far and not certified.

        Args:
            margin_left: only images whose logit margin once fell to this fraction of the clean one or below.
        """
        undecided = (self._clean[rows] == self._labels[rows]) & (self._broken_by[rows] == UNBROKEN)
        if self._certified is not None:
            undecided &= ~self._certified[rows]
        if margin_left is not None:
            undecided &= self._logit_margin[rows] <= margin_left * self._clean_logit_margin[rows]
        return undecided

    def add(self, result: BatchResult) -> int:
        """Add the results of a batch, and return the number of images that it broke."""
        rows = np.array(result.rows, dtype=np.int64)
        predicted, margin = np.array(result.predicted), np.array(result.margin)
        if result.attack == CERTIFIED:
            if not len(rows):
                return 0
            self._certified = np.zeros(len(self._labels), dtype=np.bool_)
            self._certified[rows[predicted == self._labels[rows]]] = True
            return 0
        self._margin[rows] = np.minimum(self._margin[rows], margin)
        self._logit_margin[rows] = np.minimum(self._logit_margin[rows], result.logit_margin)
        if result.attack == CLEAN:
            self._clean[rows] = self._attacked[rows] = predicted
            self._clean_margin[rows], self._clean_logit_margin[rows] = margin, result.logit_margin
            return 0
        misclassified = predicted != self._labels[rows]
        broken = rows[misclassified]
        self._attacked[broken], self._broken_by[broken] = predicted[misclassified], result.attack
        self._distance[broken] = np.array(result.distance)[misclassified]
        self._sha256[broken] = np.array(result.sha256, dtype=object)[misclassified]
        return len(broken)

    def to_evaluation(self) -> Evaluation:
        """Return the rows of all images; images that were never evaluated have the class −1."""
        return Evaluation(
            labels=self._labels,
            clean=self._clean,
            attacked=self._attacked,
            broken_by=self._broken_by,
            distance=self._distance,
            clean_margin=self._clean_margin,
            margin=self._margin,
            sha256=tuple(self._sha256),
            certified=self._certified,
        )
