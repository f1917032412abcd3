"""Random crops and mirror images of a whole batch at once, on its device."""

import torch
from torch.nn import functional

from faal_core.classifier import Images


def crop_and_flip(x: Images, generator: torch.Generator) -> Images:
    """Each image padded with zeros by an eighth of its side, cut back at a random place, and mirrored half of the time.

    At 32 × 32 this is the usual crop with padding 4.
    """
    n, _, height, width = x.shape
    above, left = round(height / 8), round(width / 8)
    padded = functional.pad(x, (left, left, above, above))
    top = torch.randint(2 * above + 1, (n, 1), generator=generator, device=x.device)
    start = torch.randint(2 * left + 1, (n, 1), generator=generator, device=x.device)
    mirrored = torch.rand((n, 1), generator=generator, device=x.device) < 0.5
    columns = torch.arange(width, device=x.device)
    columns = start + torch.where(mirrored, columns.flip(0), columns)
    rows = top + torch.arange(height, device=x.device)
    images = torch.arange(n, device=x.device).view(-1, 1, 1)
    cut = padded.permute(0, 2, 3, 1)[images, rows.unsqueeze(2), columns.unsqueeze(1)]
    return cut.permute(0, 3, 1, 2)
