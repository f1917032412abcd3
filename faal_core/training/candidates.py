"""A candidate of a finished fine-tuning, made from the original and the trained weights."""

import copy

import torch

from faal_core import weights
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec, WeightsMismatch
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.training.offsets import add_offsets
from faal_core.training.selection import interpolate


def candidate_classifier(original: Classifier, trained: Classifier, report: FinetuneReport, number: int) -> Classifier:
    """Return the weights of candidate `number` (from 0) of the report, as the fine-tuning validated them.

    Args:
        original: the classifier that was fine-tuned.
        trained: the best epoch's weights, `FinetuneResult.trained_classifier`.
    Raises: InvalidSpec where the report has no such candidate; WeightsMismatch where a classifier is not the report's.
    """
    if not 0 <= number < len(report.candidates):
        raise InvalidSpec(
            f"The report has {len(report.candidates)} candidates, numbered from 0; {number} is none of them."
        )
    if weights.digest(original) != report.before.classifier.sha256:
        raise WeightsMismatch("These are not the weights that were fine-tuned: their digest is not the report's.")
    if weights.digest(trained) != report.trained_sha256:
        raise WeightsMismatch(
            "The weights at the end of training are not this report's: another run has replaced them."
        )
    candidate, offsets = report.candidates[number], report.unscaled_class_offsets
    class_offsets = None if offsets is None else torch.tensor(offsets)
    classifier = add_offsets(copy.deepcopy(original), class_offsets, candidate.offset_scale)
    if candidate.interpolation:
        classifier.load_state_dict(interpolate(classifier.state_dict(), trained.state_dict(), candidate.interpolation))
    classifier.spec = trained.spec
    return classifier.eval()
