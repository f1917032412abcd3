"""Test that an image's random numbers depend on its seed alone, not on its batch or on images that leave it."""

import torch

from faal_core.attacks.randomness import ImageRandom, seed_from

CPU = torch.device("cpu")


def test_streams_continue_with_the_images_that_stay() -> None:
    """After some images leave the batch, the others draw the same numbers as if all had stayed."""
    everyone, shrinking = ImageRandom([5, 6, 7, 8], CPU), ImageRandom([5, 6, 7, 8], CPU)
    assert torch.equal(everyone.uniform(4, 2, 3), shrinking.uniform(4, 2, 3))
    rest = shrinking.subset(torch.tensor([1, 3]))
    assert torch.equal(everyone.normal(4, 5)[[1, 3]], rest.normal(2, 5))


def test_an_image_gets_the_same_alone() -> None:
    """The numbers of an image depend on its seed alone, not on the batch."""
    assert torch.equal(ImageRandom([3, 9], CPU).uniform(2, 4)[1:], ImageRandom([9], CPU).uniform(1, 4))


def test_seeds_differ_by_every_part() -> None:
    """Another seed, attack, run or image gives another stream; the same gives the same."""
    parts = [(0, 1, 2, "a"), (1, 1, 2, "a"), (0, 2, 2, "a"), (0, 1, 3, "a"), (0, 1, 2, "b"), (0, 12, "a")]
    assert len({seed_from(*part) for part in parts}) == len(parts)
    assert seed_from(*parts[0]) == seed_from(*parts[0])
