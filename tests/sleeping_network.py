"""A file for `FAAL_NETWORKS`: a network that takes a known time for each image and no processor, as a slow device would.

It does not sleep where the environment variable `AWAKE` names a file that exists.
"""

import os
import time
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import nn


class _Sleeping(nn.Module):
    """A linear network that sleeps for some microseconds for each image."""

    def __init__(self, num_classes: int, channels: int, microseconds: int) -> None:
        super().__init__()
        self.pool, self.linear = nn.AdaptiveAvgPool2d(4), nn.Linear(16 * channels, num_classes)
        self._seconds = microseconds / 1e6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seconds = len(x) * self._seconds  # cannot be traced, so that no image is certified and all are attacked
        if "AWAKE" not in os.environ or not Path(os.environ["AWAKE"]).exists():
            time.sleep(seconds)
        return self.linear(self.pool(x).flatten(1))


def sleeping_net(
    num_classes: int, channels: int, microseconds: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
) -> nn.Module:
    """Build a linear network of averages that takes `microseconds` for each image."""
    return _Sleeping(num_classes, channels, microseconds)
