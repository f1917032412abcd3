"""Run Auto-PGD by the gradients of another network, for classifiers that hide their own."""

import torch
from torch import Tensor

from faal_core.attacks.apgd import apgd
from faal_core.attacks.losses import margin_loss, targeted_dlr
from faal_core.attacks.randomness import RandomSource
from faal_core.attacks.targets import select_target
from faal_core.classifier import Classifier, Images, Labels, Logits
from faal_core.specs import TransferSpec
from faal_core.threat_model import ThreatModel


class Transfer:
    """Runs Auto-PGD on a source network: untargeted, or once against each of its nearest classes.

    An image leaves when the audited classifier misclassifies it, whatever the source predicts.

    Args:
        num_classes: number of classes; limits the targets to `num_classes` − 1.
        source: in eval mode, on the device of the attacked classifier.
    Source: transfer of adversarial examples, Papernot, McDaniel and Goodfellow 2016. Differs: the audited classifier judges
        each step, not only the last one.
    """

    def __init__(self, spec: TransferSpec, num_classes: int, source: Classifier) -> None:
        self._spec, self._source = spec, source
        self._targets = min(spec.targets, num_classes - 1)

    @property
    def runs(self) -> int:
        """Return the number of runs: all restarts against the first target, then against the next."""
        return max(self._targets, 1) * self._spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: RandomSource
    ) -> Images:
        """Return the images after run `number`."""
        iterations = self._spec.iterations
        if not self._targets:
            return apgd(
                self._network, x, y, threat, iterations, lambda z, y, _: margin_loss(z, y), y, random, classifier
            )
        x_source = self._source.lay_out(x)
        target = select_target(self._source, x_source, y, number // self._spec.restarts)
        return apgd(self._network, x, y, threat, iterations, targeted_dlr, target, random, classifier)

    def _network(self, x: Images) -> Logits:
        """Return the source's logits, constant where they or their gradients are not finite: a fault of the source alone."""
        x = self._source.lay_out(x)
        if x.requires_grad:
            x.register_hook(_replace_not_finite)
        return _replace_not_finite(self._source(x))


def _replace_not_finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
