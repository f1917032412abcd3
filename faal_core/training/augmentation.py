"""Random crops and mirror images of a whole batch at once, on its device."""

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.catalog import Augmentation
from faal_core.classifier import Images


def augment(x: Images, augmentation: Augmentation, generator: torch.Generator) -> Images:
    """Return the images changed at random, each in its own way.

    `crop` pads each image with zeros by an eighth of its side and cuts it back at a random place (at 32 × 32 this is the usual
    crop with padding 4). `flip` mirrors it left to right with probability ½.
    """
    if augmentation == "none":
        return x
    n, _, height, width = x.shape
    crops = "crop" in augmentation
    above, left = (round(height / 8), round(width / 8)) if crops else (0, 0)
    padded = functional.pad(x, (left, left, above, above))
    top, start = (_draw(2 * margin + 1, n, generator) for margin in (above, left))
    columns = torch.arange(width, device=x.device).expand(n, width)
    if "flip" in augmentation:
        mirrored = torch.rand((n, 1), generator=generator, device=x.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows = top + torch.arange(height, device=x.device)
    images = torch.arange(n, device=x.device).view(-1, 1, 1)
    cut = padded.permute(0, 2, 3, 1)[images, rows.unsqueeze(2), (start + columns).unsqueeze(1)]
    return cut.permute(0, 3, 1, 2)


def _draw(below: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw a whole number in 0…below − 1 for each image, `n 1`."""
    return torch.randint(below, (n, 1), generator=generator, device=generator.device)
