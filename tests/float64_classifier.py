"""A classifier in float64, for tests that compare two ways of computing one thing.

Sums in another order, another batch size, instruction set or number of threads differ by rounding. In float32 that is 1e-7 of a
value, and attacks amplify it: where a gradient is nearly zero they go by its sign or its direction. In float64 it is 1e-16.
"""

from faal_core.classifier import Classifier, Images, Logits


class Float64Classifier(Classifier):
    """Computes and returns logits in float64, from images of any precision."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.double()

    def forward(self, x: Images) -> Logits:
        """Logits, not rounded to float32."""
        logits: Logits = self.backbone(self._normalised(x.double()))
        return logits


def in_float64(classifier: Classifier) -> Float64Classifier:
    """A classifier of the same weights, in the same mode; the given one's backbone becomes part of it."""
    return Float64Classifier(classifier.backbone, classifier.spec).train(classifier.training)
