"""Audit the given and the fine-tuned weights on the same images, under the same attacks."""

from pathlib import Path

import torch

from faal_core.auditing.processes import Executors
from faal_core.auditing.reliability import digest_pixels
from faal_core.auditing.result import AuditResult
from faal_core.auditing.run import run_audit, summarise
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import Progress, ProgressPart
from faal_core.results.documents import PRODUCT
from faal_core.results.ledger import BatchResult, compute_identity
from faal_core.results.trust import list_codes
from faal_core.specs import FinetuneSpec


class Audits:
    """Runs the audits before and after the training, on the same test images."""

    def __init__(
        self,
        training_data: LabelledImages,
        test_data: LabelledImages,
        spec: FinetuneSpec,
        device: torch.device,
        checkpoint: Path | None,
        executors: Executors,
    ) -> None:
        self._executors = executors
        self._test_data, self._spec, self._device, self._checkpoint = test_data, spec.audit_spec, device, checkpoint
        self._method = spec.method.type
        self._trained_on = frozenset(digest_pixels(training_data))

    def run_after(
        self, classifier: Classifier, name: str, before: AuditResult, selected: Classifier, progress: Progress
    ) -> tuple[AuditResult, AuditResult]:
        """Audit the selected weights, and return both audits, with the same attacks.

        Attacks that follow warnings of one audit run in the other one, too: otherwise the two could not be compared.
        """
        after = self.run(
            selected,
            f"{name} + {self._method}",
            ProgressPart(progress, "after"),
            paired_codes=list_codes(before.report),
        )
        if after.report.escalation != before.report.escalation:
            is_judged_alike = _count_draws(before) == _count_draws(after)
            before = self.run(
                classifier,
                name,
                ProgressPart(progress, "before"),
                paired_codes=list_codes(after.report),
                known_results=before.batch_results if is_judged_alike else None,
            )
        return before, after

    def run(
        self,
        classifier: Classifier,
        name: str,
        progress: Progress,
        paired_codes: tuple[str, ...] = (),
        known_results: tuple[BatchResult, ...] | None = (),
    ) -> AuditResult:
        """Audit the classifier; a killed audit resumes from its ledger in the checkpoint folder.

        Args:
            paired_codes: codes of the warnings of the other audit.
            known_results: of an earlier audit of the classifier; None where its results do not hold for this one.
        """
        ledger = None
        if self._checkpoint and known_results is not None:
            subject = compute_identity(PRODUCT, summarise(classifier, name), self._test_data.sha256, self._spec)
            ledger = self._checkpoint / f"{subject[:16]}.ledger"
        return run_audit(
            classifier,
            self._test_data,
            self._spec,
            name=name,
            device=self._device,
            trained_on=self._trained_on,
            ledger=ledger,
            progress=progress,
            executors=self._executors,
            paired_codes=paired_codes,
            known_results=known_results or (),
        )


def _count_draws(audited: AuditResult) -> int:
    """Return how many draws of random outputs judge an image."""
    return audited.report.escalation.draws if audited.report.escalation else 1
