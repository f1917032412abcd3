"""Write the result of a requirement as a sentence. Class names are quoted as they are; reports escape them."""

from collections.abc import Sequence
from typing import NamedTuple

from faal_core.results.document import Status
from faal_core.results.gates.images_to_decide import MOST


class Measurement(NamedTuple):
    """Describes a rate or a gap that was measured, with its interval and its limit.

    Args:
        quantity: the measured quantity, as the beginning of a sentence.
        is_largest: whether the limit is the largest allowed value; else it is the smallest.
        unit: of which images more would be needed, such as "images per class".
    """

    quantity: str
    limit: float
    value: float
    low: float
    high: float
    is_largest: bool
    unit: str

    @property
    def status(self) -> Status:
        """Return the result by the interval alone."""
        if self.is_largest:
            return "pass" if self.high <= self.limit else "fail" if self.low > self.limit else "undecided"
        return "pass" if self.low >= self.limit else "fail" if self.high < self.limit else "undecided"


def explain_measurement(measurement: Measurement, doubts: Sequence[str], images_to_decide: int | None) -> str:
    """Return the sentences about a measurement and its limit.

    Args:
        doubts: reasons why the rates may be too high.
    """
    one = measurement
    unit = (
        "points" if one.is_largest else "%"
    )  # only a gap has a largest allowed value, and a gap is a difference of rates
    value, low, high = (f"{100 * number:.1f}" for number in (one.value, one.low, one.high))
    measured = f"{one.quantity} is {value} {unit}, with the interval {low} to {high} {unit}."
    limit = f"limit of {100 * one.limit:g} {unit}"
    good, bad = ("at or below", "above") if one.is_largest else ("at or above", "below")
    if one.status == "pass":
        met = f"{measured} The interval is {good} the {limit}"
        return f"{met}, but the rates may be too high. {' '.join(doubts)}" if doubts else f"{met}."
    if one.status == "fail":
        missed = f"{measured} The interval is {bad} the {limit}"
        if doubts and one.is_largest:
            return f"{missed}, but the rates may be too high, and the gap may be smaller. {' '.join(doubts)}"
        return f"{missed}."
    return f"{measured} The {limit} is within the interval. {_explain_images(one, images_to_decide)}"


def _explain_images(measurement: Measurement, images: int | None) -> str:
    if images is not None:
        return f"If the true rates were the measured ones, {images:,} {measurement.unit} would decide it in 80 % of audits."
    if measurement.value == measurement.limit:
        return "The measured value equals the limit, so more images need not decide it."
    return f"To decide it, more than {MOST:,} {measurement.unit} are needed at this confidence."
