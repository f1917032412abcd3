"""A classifier in float64, for tests that compare two ways to compute one result.

Sums differ by rounding with another order, batch size, instruction set or number of threads. In float32 the relative difference
is 1e-7. Attacks amplify it: where a gradient is nearly zero, they use its sign or direction. In float64 it is 1e-16.
"""

from faal_core.classifier import Classifier, Images, Logits


class Float64Classifier(Classifier):
    """Computes and returns logits in float64, from images of any precision."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.double()

    def forward(self, x: Images) -> Logits:
        """Return logits without rounding to float32."""
        logits: Logits = self.backbone(self._normalise(x.double()))
        return logits


def convert_to_float64(classifier: Classifier) -> Float64Classifier:
    """Return a classifier with the same weights and mode; it takes over the given classifier's backbone."""
    return Float64Classifier(classifier.backbone, classifier.spec).train(classifier.training)
