"""Signs that an audit's numbers are not to be trusted, looked for before the attacks are run and in what they did.

Sources: the red flags of Croce and Hein 2020 (AutoAttack), Carlini et al. 2019 (On Evaluating Adversarial Robustness) and
Athalye, Carlini and Wagner 2018 (Obfuscated Gradients). A classifier that raises no warning can still mask its gradients.
"""

import torch

from faal_core.audit.reliability import gradients, outputs
from faal_core.audit.reliability.images import examine_images, pixel_digests, training_digests
from faal_core.audit.reliability.predictions import examine_predictions, few_images
from faal_core.classifier import Classifier, Images, Labels
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.specs import AttackSpec, SquareSpec
from faal_core.threat_model import ThreatModel

__all__ = [
    "examine",
    "examine_attacks",
    "examine_images",
    "examine_predictions",
    "few_images",
    "pixel_digests",
    "training_digests",
]

_SQUARE_GAIN = 0.002  # of all images; what AutoAttack's own check allows


def examine(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> tuple[ReliabilityWarning, ...]:
    """What is suspicious about the classifier on a sample of at least two images, most fundamental first; often nothing.

    The classifier is in eval mode. Nothing is drawn: the same arguments give the same warnings.
    Cost: 3 forward passes of the sample, 3 more where it is mostly wrong, and of the images it is right about 59 forward and
    53 backward: two gradients, and six attacks with 51 steps together.
    """
    with torch.no_grad():
        logits, again = classifier(x), classifier(x)
    correct = logits.argmax(1) == y
    unstable = outputs.not_repeatable(logits, again) or outputs.batch_dependent(classifier, x, logits)
    found = [
        unstable,
        outputs.probabilities(logits),
        outputs.levels_in_spec(classifier.spec) or outputs.other_range(classifier, x, y, correct),
    ]
    if bool(correct.any()):
        found += gradients.gradient_checks(classifier, x[correct], y[correct], threat)
    return tuple(warning for warning in found if warning)


def examine_attacks(
    specs: tuple[AttackSpec, ...], rows: tuple[AttackRow, ...], images: int
) -> tuple[ReliabilityWarning, ...]:
    """What is suspicious about the attacks of an audit of that many images: a row each, in the order they were run."""
    searches = [isinstance(spec, SquareSpec) for spec in specs]
    first_climb = searches.index(False) if False in searches else len(specs)
    climbed = sum(row.broken for row, search in zip(rows, searches, strict=True) if not search)
    after = [row for row, search in list(zip(rows, searches, strict=True))[first_climb:] if search]
    broken, tried = sum(row.broken for row in after), sum(row.tried for row in after[:1])
    if broken <= _SQUARE_GAIN * images:
        return ()
    return (
        ReliabilityWarning(
            code="square-beats-gradients",
            message="A search without gradients broke images that the attacks with gradients had left.",
            evidence=(
                f"Square broke {broken} of the {tried} images it was tried on, {broken / images:.2%} of all {images}; "
                f"{_SQUARE_GAIN:.1%} is allowed; the attacks with gradients broke {climbed}"
            ),
            advice="The gradients mislead or their attacks were too short: use longer ones, and read the rates as far too high.",
        ),
    )
