"""A candidate of a finished fine-tuning, made from the original and the trained weights."""

import copy

import torch

from faal_core import weights
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec, WeightsMismatch
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.training.head import HeadChange, change_head
from faal_core.training.selection import interpolate


def candidate_classifier(original: Classifier, trained: Classifier, report: FinetuneReport, number: int) -> Classifier:
    """Return the weights of candidate `number` (from 0) of the report, as the fine-tuning validated them.

    Args:
        original: the classifier that was fine-tuned.
        trained: `FinetuneResult.trained_classifier`.
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
    candidate = report.candidates[number]
    row_scales, class_offsets = (
        None if values is None else torch.tensor(values)
        for values in (report.unscaled_row_scales, report.unscaled_class_offsets)
    )
    classifier = change_head(copy.deepcopy(original), HeadChange(row_scales, class_offsets), candidate.offset_scale)
    if candidate.interpolation:
        classifier.load_state_dict(interpolate(classifier.state_dict(), trained.state_dict(), candidate.interpolation))
    classifier.spec = trained.spec
    return classifier.eval()
