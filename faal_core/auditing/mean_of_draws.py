"""Make one classifier of a network with random outputs: its mean logits over draws with fixed seeds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from faal_core.classifier import Classifier, Images, Logits

GRADIENT_DRAWS = 16
"""Draws whose mean has the gradient that attacks follow: they cost a backward pass each, and steer well enough."""


class MeanOfDraws(Classifier):
    """Returns the mean logits of several draws of a classifier with random outputs.

    The seeds are fixed, so that the same batch gets the same logits each time. An image's draws depend on its place in the batch.
    Attacks see other draws than those that judge their images (`show_other_draws`); where a gradient is needed, fewer of them.
    Networks that draw from a generator of their own stay random.

    Args:
        classifier: shares its network with this classifier.
        draws: number of draws without a gradient, at least 1.
    Source: Athalye, Carlini and Wagner 2018, section 4.2 (expectation over transformation).
    """

    def __init__(self, classifier: Classifier, draws: int) -> None:
        super().__init__(classifier.backbone, classifier.spec)
        self.to(classifier.device)
        self.draws, self.first_seed = draws, GRADIENT_DRAWS

    def forward(self, x: Images) -> Logits:
        """Return the mean logits, `n k`. Cost: one pass of the network a draw, which all count as a single one."""
        is_on_gpu = x.device.type == "cuda"
        seeds = range(GRADIENT_DRAWS) if x.requires_grad else range(self.first_seed, self.first_seed + self.draws)
        total = torch.zeros(())
        with torch.random.fork_rng([x.device] if is_on_gpu else []):
            for seed in seeds:
                torch.default_generator.manual_seed(seed)
                if is_on_gpu:
                    torch.cuda.manual_seed(seed)
                total = total.to(x.device) + super().forward(x)
        return total / len(seeds)


@contextmanager
def show_other_draws(classifier: Classifier) -> Iterator[None]:
    """Let an attack within the context see other draws than those that judge its images; change nothing without draws.

    Otherwise an attack of many queries, as Square, would aim at the luck of the draws that judge it.
    """
    if not isinstance(classifier, MeanOfDraws):
        yield
        return
    before = classifier.first_seed
    classifier.first_seed = 2**20
    try:
        yield
    finally:
        classifier.first_seed = before
