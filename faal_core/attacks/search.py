"""Let images leave the search of an attack, on a GPU without a wait of the host at every step."""

import torch
from torch import Tensor

from faal_core.attacks.losses import compute_gradient, require_finite_gradient
from faal_core.classifier import Images, PerImage

STEPS_BETWEEN_WAITS = {"cpu": 1}
"""Steps of an attack between two waits of the host, by type of device; a CPU never makes the host wait."""

_GPU_STEPS = 8  # the wait is paid once for these steps, and an image that left takes part in half of them on average


def steps_between_waits(device: torch.device) -> int:
    """Return the number of steps of an attack between two waits of the host for the device."""
    return STEPS_BETWEEN_WAITS.get(device.type, _GPU_STEPS)


def select_places(selected: Tensor) -> Tensor:
    """Return the places where `selected` is true; all places on a GPU, which would have to tell the host their number."""
    if steps_between_waits(selected.device) == 1:
        return selected.nonzero().squeeze(1)
    return torch.arange(len(selected), device=selected.device)


class Search:
    """Holds the images that left a search, as they were then, and where the images still in the search belong.

    Only the device knows how many images leave. To read that number, the host waits for all operations before. So on a GPU,
    images that left stay in the batch for some steps, and their later values are ignored. Gradients are checked at the same
    steps.

    Args:
        start: all images, `n c h w`.
    """

    def __init__(self, start: Images) -> None:
        self.rows = torch.arange(len(start), device=start.device)
        self._images = start.clone()
        self._searching = torch.ones(len(start), dtype=torch.bool, device=start.device)
        self._finite = torch.ones((), dtype=torch.bool, device=start.device)
        self._steps, self._calls = steps_between_waits(start.device), 0

    def compute_gradient(self, value: PerImage, x: Images) -> Images:
        """Return the gradient of each image's value with respect to its pixels; zero where no gradient flows.

        Raises: ClassifierUnsuitable where the gradient is NaN or infinite; on a GPU some steps later, or in `finish`.
        """
        if self._steps == 1:
            return compute_gradient(value, x)
        gradient = compute_gradient(value, x, check=False)
        finite = (gradient.isfinite().all(3).all(2).all(1) | ~self._searching).all()
        self._finite = self._finite & finite
        return gradient

    def leave(self, images: Images, leaving: Tensor) -> Tensor | None:
        """Store the images that leave for the first time; return the places to keep, where the batch becomes smaller.

        Args:
            images: the batch, `b c h w`.
            leaving: which of them leave, `b`, bool.
        """
        if self._steps == 1:
            return self._remove(images, ~leaving) if bool(leaving.any()) else None
        self._calls += 1
        self._store(images, leaving & self._searching)
        self._searching = self._searching & ~leaving
        return None if self._calls % self._steps else self._remove(None, self._searching)

    def finish(self, images: Tensor) -> Images:
        """Return all images: those that left as they were then, and the others from the batch. Raises: as `compute_gradient`."""
        if self._steps == 1:
            self._images[self.rows] = images
        else:
            self._store(images, self._searching)
            require_finite_gradient(self._finite)
        return self._images

    def _store(self, images: Images, selected: Tensor) -> None:
        before = self._images[self.rows]
        self._images[self.rows] = torch.where(selected.view(-1, 1, 1, 1), images, before)

    def _remove(self, images: Images | None, searching: Tensor) -> Tensor | None:
        """Return the places of the images that still search, where some do not, after storing `images`."""
        places = searching.nonzero().squeeze(1)
        if self._steps > 1:
            require_finite_gradient(self._finite)
        if len(places) == len(self.rows):
            return None
        if images is not None:
            self._images[self.rows] = images
        self.rows, self._searching = self.rows[places], self._searching[places]
        return places
