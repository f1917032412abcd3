"""The losses of training: two terms an image, so that each can be weighed by class."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from faal_core.classifier import Classifier, Images, Labels, Logits, PerImage


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a batch's loss, in nats: classification, and divergence of the adversarial prediction from the clean one.

    Args:
        adversarial_logits: the logits that the terms were computed from.
    """

    adversarial_logits: Logits
    classification: PerImage
    divergence: PerImage


def adversarial_cross_entropy(adversarial_logits: Logits, y: Labels) -> Terms:
    """Return the cross-entropy on the adversarial images; no divergence. Source: Madry et al. 2018, eq. 1 (called AT)."""
    loss = functional.cross_entropy(adversarial_logits, y, reduction="none")
    return Terms(adversarial_logits, loss, torch.zeros_like(loss))


def trades(clean_logits: Logits, adversarial_logits: Logits, y: Labels) -> Terms:
    """Return the cross-entropy on the clean images; KL(clean‖adversarial). Source: Zhang et al. 2019 (TRADES), eq. 5."""
    loss = functional.cross_entropy(clean_logits, y, reduction="none")
    return Terms(adversarial_logits, loss, kl_divergence(clean_logits, adversarial_logits))


def mart(clean_logits: Logits, adversarial_logits: Logits, y: Labels) -> Terms:
    """Return the boosted cross-entropy on the adversarial images; KL(clean‖adversarial) · (1 − clean probability of the label).

    Source: Wang et al. 2020 (MART), eq. 9 and 10: the boost is −log(1 − the likeliest other class's probability).
    Differs: computed from log-probabilities, without constants against log 0.
    """
    log_adversarial = functional.log_softmax(adversarial_logits, 1)
    others = adversarial_logits.scatter(1, y.unsqueeze(1), -torch.inf)
    likeliest = others.argmax(1, keepdim=True)
    rest = log_adversarial.scatter(1, likeliest, -torch.inf).logsumexp(1)
    boosted = -log_adversarial.gather(1, y.unsqueeze(1)).squeeze(1) - rest
    missed = 1 - clean_logits.softmax(1).gather(1, y.unsqueeze(1)).squeeze(1)
    return Terms(adversarial_logits, boosted, kl_divergence(clean_logits, adversarial_logits) * missed)


def kl_divergence(reference: Logits, logits: Logits) -> PerImage:
    """Return KL(softmax(reference)‖softmax(logits)), in nats."""
    log_reference, log_other = functional.log_softmax(reference, 1), functional.log_softmax(logits, 1)
    return functional.kl_div(log_other, log_reference, reduction="none", log_target=True).sum(1)


_BESIDE_CLEAN: dict[str, Callable[[Logits, Logits, Labels], Terms]] = {"trades": trades, "mart": mart}


def terms(
    classifier: Classifier, x: Images, x_adv: Images, y: Labels, loss: str, *, clean_forward: bool = False
) -> Terms:
    """Return the terms of a loss, with the classifier in the mode that it is in.

    Args:
        loss: "at", "trades" or "mart".
        clean_forward: for "at", forward the clean images first, for batch-norm's statistics alone.
    """
    if loss != "at":
        return _BESIDE_CLEAN[loss](classifier(x), classifier(x_adv), y)
    if clean_forward:
        with torch.no_grad():
            classifier(x)
    return adversarial_cross_entropy(classifier(x_adv), y)
