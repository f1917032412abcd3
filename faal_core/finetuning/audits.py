"""Audit the given and the fine-tuned weights on the same images, under the same attacks."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from faal_core.auditing.processes import Executors
from faal_core.auditing.reliability import digest_pixels
from faal_core.auditing.result import AuditResult
from faal_core.auditing.run import run_audit, summarise
from faal_core.auditing.sources import Source
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

        Attacks that follow warnings of one audit run in the other one, too: otherwise the two could not be compared. Some of them
        follow the gradients of the given weights, which new weights cannot hide.
        """
        source = Source(name, classifier)
        after = self.run(
            selected,
            f"{name} + {self._method}",
            ProgressPart(progress, "after"),
            source=source,
            paired_codes=list_codes(before.report),
        )
        if after.report.escalation != before.report.escalation:
            own = len(self._spec.attacks)  # numbers from there on may name other attacks than before
            known = [one for one in before.batch_results if one.attack < own]
            before = self.run(
                classifier,
                name,
                ProgressPart(progress, "before"),
                source=source,
                paired_codes=list_codes(after.report),
                known_results=known if _count_draws(before) == _count_draws(after) else (),
            )
        return before, after

    def run(
        self,
        classifier: Classifier,
        name: str,
        progress: Progress,
        source: Source | None = None,
        paired_codes: tuple[str, ...] = (),
        known_results: Sequence[BatchResult] = (),
    ) -> AuditResult:
        """Audit the classifier; a killed audit resumes from its ledger in the checkpoint folder.

        Args:
            source: network whose gradients attacks follow after warnings; the classifier itself when absent.
            paired_codes: codes of the warnings of the other audit.
            known_results: of an earlier audit of the classifier, which hold for this one.
        """
        ledger = None
        if self._checkpoint:
            subject = compute_identity(PRODUCT, summarise(classifier, name), self._test_data.sha256, self._spec)
            codes = hashlib.sha256(" ".join(paired_codes).encode()).hexdigest()  # which decide about further attacks
            ledger = self._checkpoint / f"{subject[:16]}-{codes[:8]}.ledger"
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
            known_results=known_results,
            sources=[source or Source(name, classifier)],
        )


def _count_draws(audited: AuditResult) -> int:
    """Return how many draws of random outputs judge an image."""
    return audited.report.escalation.draws if audited.report.escalation else 1
