"""Convert a job's epochs, or a plan's runs, to the lines of a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import BaseModel, ConfigDict

from faal_client.resources.plans import PlanRunResource

WIDTH, HEIGHT = 640, 200  # of the chart in SVG units; the page scales it


class Epoch(BaseModel):
    """An epoch, from the body of its event."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: int
    learning_rate: float
    loss: float
    validation_clean: float | None
    validation_robust: float | None
    validation_robust_worst: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of the chart, and its last value.

    Args:
        segments: parts of the line between missing values; each has its points as (x, y) from the upper left corner.
    """

    name: str
    key: str
    segments: tuple[tuple[tuple[float, float], ...], ...]
    last: float

    @property
    def paths(self) -> list[str]:
        """Return the points of each segment in the format of SVG."""
        return [" ".join(f"{x:.1f},{y:.1f}" for x, y in segment) for segment in self.segments]


def curves(epochs: Sequence[Epoch]) -> list[Curve]:
    """Return the lines of the validation accuracies, from 0 at the bottom to 1 at the top; none without validation images."""
    accuracies = {
        ("Clean", "clean"): [epoch.validation_clean for epoch in epochs],
        ("Robust, mean", "mean"): [epoch.validation_robust for epoch in epochs],
        ("Robust, worst class", "worst"): [epoch.validation_robust_worst for epoch in epochs],
    }
    return _draw(accuracies)


def curves_of_runs(runs: Sequence[PlanRunResource]) -> list[Curve]:
    """Return the lines of the robust accuracies over runs with an audit that succeeded, which are oldest first."""
    accuracies = {
        ("Robust, mean", "mean"): [run.robust_mean for run in runs],
        ("Robust, worst class", "worst"): [None if run.worst_class is None else run.worst_class.rate for run in runs],
    }
    return _draw(accuracies)


def _draw(accuracies: Mapping[tuple[str, str], Sequence[float | None]]) -> list[Curve]:
    """Return a line for each name and key with values. The index of a value is its place; a missing value is a gap."""
    lines = []
    for (name, key), series in accuracies.items():
        step = WIDTH / max(1, len(series) - 1)
        places = [None if value is None else (step * i, HEIGHT * (1 - value)) for i, value in enumerate(series)]
        segments = [
            tuple(filter(None, group)) for is_gap, group in groupby(places, lambda one: one is None) if not is_gap
        ]
        if segments:
            lines.append(Curve(name, key, tuple(segments), [value for value in series if value is not None][-1]))
    return lines
