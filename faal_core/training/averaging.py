"""A moving average of the weights, which is validated and selected in their place."""

from collections.abc import Callable
from typing import cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from faal_core.classifier import Classifier
from faal_core.specs import Averaging
from faal_core.training.validation import ValidationAccuracy


class WeightAverage(AveragedModel):
    """The average of the weights after steps or epochs, batch-norm's statistics included; it starts as the classifier itself.

    Source: with `every: epoch` and `min_robust_worst`, the fairness-aware averaging of Wei et al., CVPR 2023 (CFA), section 4.3.
    """

    def __init__(self, classifier: Classifier, spec: Averaging) -> None:
        super().__init__(classifier, multi_avg_fn=get_ema_multi_avg_fn(spec.decay), use_buffers=True)
        self._spec = spec
        self.update_parameters(classifier)

    @property
    def classifier(self) -> Classifier:
        """Return the average as a classifier."""
        return cast("Classifier", self.module)

    def after_step(self, classifier: Classifier) -> None:
        """Add the weights to the average, if every step counts."""
        if self._spec.every == "step":
            self.update_parameters(classifier)

    def after_epoch(self, classifier: Classifier, validate: Callable[[Classifier], ValidationAccuracy]) -> None:
        """Add the weights to the average, if every epoch counts and their worst class is robust enough.

        Args:
            validate: called only where the spec asks how robust the worst class is.
        """
        min_worst = self._spec.min_robust_worst
        if self._spec.every == "epoch" and (not min_worst or validate(classifier).robust_worst >= min_worst):
            self.update_parameters(classifier)
