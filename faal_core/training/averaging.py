"""A moving average of the weights, which is validated and kept in their place."""

from collections.abc import Callable
from typing import cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from faal_core.classifier import Classifier
from faal_core.specs import Averaging
from faal_core.training.validation import HeldOutAccuracy


class WeightAverage(AveragedModel):
    """The average of the weights after steps or epochs, batch-norm's statistics included; at first the classifier itself.

    Source: with `every: epoch` and `least_worst`, the fairness-aware averaging of Wei et al., CVPR 2023 (CFA), section 4.3.
    """

    def __init__(self, classifier: Classifier, spec: Averaging) -> None:
        super().__init__(classifier, multi_avg_fn=get_ema_multi_avg_fn(spec.decay), use_buffers=True)
        self._spec = spec
        self.update_parameters(classifier)

    @property
    def classifier(self) -> Classifier:
        """The average as a classifier."""
        return cast(Classifier, self.module)

    def after_step(self, classifier: Classifier) -> None:
        """Takes the weights in, if every step counts."""
        if self._spec.every == "step":
            self.update_parameters(classifier)

    def after_epoch(self, classifier: Classifier, judge: Callable[[Classifier], HeldOutAccuracy]) -> None:
        """Takes the weights in, if every epoch counts and the worst class is as robust as asked, by what `judge` says of them."""
        least = self._spec.least_worst
        if self._spec.every == "epoch" and (not least or judge(classifier).robust_worst >= least):
            self.update_parameters(classifier)
