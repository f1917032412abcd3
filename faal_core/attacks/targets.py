"""Choose the classes that a targeted attack aims at."""

import torch

from faal_core.classifier import Classifier, Images, Labels


@torch.no_grad()
def select_target(classifier: Classifier, x: Images, y: Labels, rank: int) -> Labels:
    """Return the class with the `rank`-th largest logit (from 0) besides the label, for each clean image.

    Source: AutoAttack's order of targets, nearest first (Croce and Hein 2020, section 5).
    """
    logits = classifier(x)
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, rank]
