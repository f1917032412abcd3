"""Predict the adversarial images of a pack again: each image that an attack broke must be misclassified once more.

Outputs of one network differ between devices by rounding. An image whose stated and predicted class have logits that close is a
near tie: its prediction may differ, and it is listed. No other prediction may differ.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faal_core import weights
from faal_core.attacks.ball import norms
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import match_classes
from faal_core.errors import InvalidSpec
from faal_core.evidence.adversarial_file import ImageChunk, iterate_images
from faal_core.evidence.archive import Member
from faal_core.evidence.contents import ADVERSARIAL, Contents
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.result import Check
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import UNBROKEN
from faal_core.results.outcomes import Outcomes

NEAR_TIE = 1e-3
"""Largest difference of two logits that rounding may turn around, as a fraction of the image's largest minus its smallest logit.

Not of the largest absolute logit: a constant added to all logits would make every image a near tie.
"""
_LISTED = 100  # most images that a check lists
_CHUNK = 250  # images predicted at a time
_ROUNDING = 1e-4  # of the radius: a distance computed on another device


def check_predictions(
    contents: Contents, classifier: Classifier, *, adversarial: Path | None = None, data: LabelledImages | None = None
) -> Check:
    """Check that the classifier predicts the images of the pack as the outcomes say, on the CPU.

    Args:
        classifier: must have the weights that the report names.
        adversarial: .npy file of the adversarial images, where the pack does not have them.
        data: the part of the data set that was audited. If it is given, the check covers its digest, the choice of the images,
            their labels and clean predictions, and the distance of each adversarial image.
    Raises: PackRefused if anything else than a near tie differs; InvalidSpec without adversarial images and data; OSError.
    """
    report, outcomes = contents.audited, list(contents.outcomes.values())[-1]
    if report.escalation is not None and report.escalation.draws > 1:
        sentence = "The network's outputs are random, so its predictions cannot be compared image by image."
        return Check(name="predictions", status="not-checked", sentence=sentence)
    member = contents.members.get(ADVERSARIAL) if adversarial is None else Member.from_file(adversarial)
    if member is None and data is None:
        raise InvalidSpec("The pack has no adversarial images to predict again.", remedy="adversarial")
    _require_weights(classifier, report)
    classifier.place(torch.device("cpu")).eval()
    selected = None if data is None else _select_images(match_classes(classifier, data), report, outcomes)
    ties = []
    if selected is not None:
        clean = (selected.pixels(rows, torch.device("cpu")) for rows in torch.arange(len(selected)).split(_CHUNK))
        ties += _compare(classifier, clean, outcomes.evaluation.clean, "without an attack")
    if member is not None:
        attacked = _check_distances(iterate_images(member, report, outcomes), selected, report, outcomes)
        ties += _compare(classifier, attacked, outcomes.evaluation.attacked, "after the attacks")
    broken = int((outcomes.evaluation.broken_by != UNBROKEN).sum())
    subject = (
        "The clean predictions are"
        if member is None
        else f"All {broken:,} images that an attack broke are misclassified"
    )
    sentence = f"{subject} as stated, with these weights on the CPU; {len(ties)} near ties differ."
    return Check(name="predictions", status="passed", sentence=sentence, details=tuple(ties[:_LISTED]))


def _require_weights(classifier: Classifier, report: AuditReport) -> None:
    """Check digest and description of the classifier. Raises: PackRefused."""
    if weights.digest(classifier) != report.classifier.sha256:
        raise PackRefused("The weights are not those of the report: their SHA-256 differs.")
    stated, given = report.classifier.spec, classifier.spec
    if (given.num_classes, given.mean, given.std) != (stated.num_classes, stated.mean, stated.std):
        raise PackRefused("The classifier has other classes, or another normalisation, than the report states.")


def _select_images(data: LabelledImages, report: AuditReport, outcomes: Outcomes) -> LabelledImages:
    """Return the audited images, drawn again from the data set by the seed. Raises: PackRefused."""
    spec = report.spec
    rows = torch.arange(len(data)) if spec.images is None else data.stratified(spec.images, spec.seed)
    if not np.array_equal(rows.numpy(), outcomes.rows):
        raise PackRefused("The audited images are not those that the seed draws from this data set.")
    selected = data if spec.images is None else data.take(rows)
    if selected.summarise().sha256 != report.dataset.sha256:
        raise PackRefused("The images and labels are not those of the report: their SHA-256 differs.")
    if not np.array_equal(selected.labels.numpy(), outcomes.evaluation.labels):
        raise PackRefused("The labels of the outcomes are not those of the data set.")
    return selected


def _check_distances(
    images: Iterator[ImageChunk], data: LabelledImages | None, report: AuditReport, outcomes: Outcomes
) -> Iterator[Tensor]:
    """Yield the adversarial images after checking their distances from the originals, if these are given. Raises: PackRefused."""
    threat = report.spec.threat
    for start, pixels in images:
        x_adv, rows = torch.from_numpy(pixels), torch.arange(start, start + len(pixels))
        if data is not None:
            distance = norms(x_adv - data.pixels(rows, x_adv.device), threat.norm).numpy()
            if (np.abs(distance - outcomes.evaluation.distance[rows.numpy()]) > _ROUNDING * threat.epsilon).any():
                raise PackRefused(f"An adversarial image among {rows[0]} to {rows[-1]} is not at the stated distance.")
        yield x_adv


@torch.no_grad()
def _compare(classifier: Classifier, images: Iterator[Tensor], expected: np.ndarray, when: str) -> list[str]:
    """Return the near ties among the images, whose predictions may differ. Raises: PackRefused if another one differs."""
    ties, row = [], 0
    for number, x in enumerate(images):
        if number == 0:
            classifier.choose_layout(x[:2])
        logits = classifier(classifier.lay_out(x)).double()
        if logits.shape != (len(x), classifier.num_classes) or not bool(logits.isfinite().all()):
            raise PackRefused("The network does not return a finite logit for each class.")
        stated = torch.from_numpy(expected[row : row + len(x)])
        places = torch.arange(len(x))
        difference = logits.amax(1) - logits[places, stated]
        bound = NEAR_TIE * (logits.amax(1) - logits.amin(1))
        for place in torch.nonzero(logits.argmax(1) != stated).flatten().tolist():
            if difference[place] > bound[place]:
                raise PackRefused(
                    f"Image {row + place} is predicted as class {int(logits[place].argmax())} {when}, and the outcomes state "
                    f"{int(stated[place])}; the logits differ by {float(difference[place]):.3g}."
                )
            ties.append(f"image {row + place} {when}: logits differ by {float(difference[place]):.3g}")
        row += len(x)
    return ties
