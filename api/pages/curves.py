"""A job's epochs as lines, in the units of their drawing."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

WIDTH, HEIGHT = 640, 200  # of the drawing's plane, which the page scales


class Epoch(BaseModel):
    """An epoch as its event tells it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: int
    learning_rate: float
    loss: float
    held_out_clean: float | None
    held_out_mean: float | None
    held_out_worst: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: `points` as (x, y) from the upper left corner, and the value it ends with."""

    name: str
    key: str
    points: tuple[tuple[float, float], ...]
    last: float

    @property
    def path(self) -> str:
        """The points as SVG writes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


def curves(epochs: Sequence[Epoch]) -> list[Curve]:
    """Accuracy on held-out images by epoch, from 0 at the bottom to 1 at the top; none where nothing was held out."""
    lines = []
    for name, key in (("Clean", "clean"), ("Robust, mean", "mean"), ("Robust, worst class", "worst")):
        values = [value for epoch in epochs if (value := getattr(epoch, f"held_out_{key}")) is not None]
        if values:
            step = WIDTH / max(1, len(values) - 1)
            points = tuple((step * i, HEIGHT * (1 - value)) for i, value in enumerate(values))
            lines.append(Curve(name, key, points, values[-1]))
    return lines
