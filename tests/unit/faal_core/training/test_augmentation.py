"""Crop and mirror."""

import torch

from faal_core.training.augmentation import crop_and_flip


def test_every_image_is_a_window_of_its_padded_self() -> None:
    """Each result equals some crop of the zero-padded image, mirrored or not; over many images both occur."""
    x = torch.rand(200, 2, 16, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    cut = crop_and_flip(x, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (1, 1, 2, 2))
    mirrored = 0
    for i in range(len(x)):
        windows = [padded[i, :, top : top + 16, left : left + 8] for top in range(5) for left in range(3)]
        straight = any(torch.equal(cut[i], window) for window in windows)
        flipped = any(torch.equal(cut[i], window.flip(-1)) for window in windows)
        assert straight or flipped
        mirrored += flipped
    assert 60 < mirrored < 140
