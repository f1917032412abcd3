"""A candidate of a finished fine-tuning, made from the weights at both ends."""

import copy

import torch

from faal_core import weights
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec, WeightsMismatch
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.training.offsets import with_offsets
from faal_core.training.selection import between


def candidate_classifier(given: Classifier, trained: Classifier, report: FinetuneReport, number: int) -> Classifier:
    """Return the weights of candidate `number` (from 0) of the report, as the fine-tuning judged them.

    Args:
        given: the classifier that was fine-tuned.
        trained: the best epoch's weights, `Finetuned.trained`.
    Raises: InvalidSpec where the report has no such candidate; WeightsMismatch where one of the two is not the report's.
    """
    if not 0 <= number < len(report.candidates):
        raise InvalidSpec(
            f"The report has {len(report.candidates)} candidates, numbered from 0; {number} is none of them."
        )
    if weights.digest(given) != report.before.classifier.sha256:
        raise WeightsMismatch("These are not the weights that were fine-tuned: their digest is not the report's.")
    if weights.digest(trained) != report.trained_sha256:
        raise WeightsMismatch(
            "The weights at the end of training are not this report's: another run has replaced them."
        )
    one, offsets = report.candidates[number], report.whole_class_offsets
    made = with_offsets(copy.deepcopy(given), None if offsets is None else torch.tensor(offsets), one.offsets)
    if one.share:
        made.load_state_dict(between(made.state_dict(), trained.state_dict(), one.share))
    made.spec = trained.spec
    return made.eval()
