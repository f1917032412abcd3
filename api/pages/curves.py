"""Convert a job's epochs to the lines of a chart."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

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
    """A line of the chart: `points` as (x, y) from the upper left corner, and its last value."""

    name: str
    key: str
    points: tuple[tuple[float, float], ...]
    last: float

    @property
    def path(self) -> str:
        """Return the points in the format of SVG."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


def curves(epochs: Sequence[Epoch]) -> list[Curve]:
    """Return the lines of the validation accuracies, from 0 at the bottom to 1 at the top; none without validation images."""
    lines = []
    accuracies = {
        ("Clean", "clean"): [epoch.validation_clean for epoch in epochs],
        ("Robust, mean", "mean"): [epoch.validation_robust for epoch in epochs],
        ("Robust, worst class", "worst"): [epoch.validation_robust_worst for epoch in epochs],
    }
    for (name, key), series in accuracies.items():
        values = [value for value in series if value is not None]
        if values:
            step = WIDTH / max(1, len(values) - 1)
            points = tuple((step * i, HEIGHT * (1 - value)) for i, value in enumerate(values))
            lines.append(Curve(name, key, points, values[-1]))
    return lines
