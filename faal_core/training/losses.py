"""What training weighs: one value per image, so that class weights can be applied."""

from torch.nn import functional

from faal_core.classifier import Labels, Logits, PerImage


def adversarial_cross_entropy(adversarial_logits: Logits, y: Labels) -> PerImage:
    """The cross-entropy on the adversarial images, in nats. Source: Madry et al. 2018, eq. 1 (called AT)."""
    return functional.cross_entropy(adversarial_logits, y, reduction="none")


LOSSES = {"at": adversarial_cross_entropy}
