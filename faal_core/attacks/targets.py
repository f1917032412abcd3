"""Which classes a targeted attack aims at."""

import torch

from faal_core.classifier import Classifier, Images, Labels


@torch.no_grad()
def runner_up(classifier: Classifier, x: Images, y: Labels, place: int) -> Labels:
    """The class of the `place`-th largest logit besides the label, from 0, on the images as they are.

    Source: AutoAttack's order of targets, nearest first (Croce and Hein 2020, section 5).
    """
    logits = classifier(x)
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, place]
