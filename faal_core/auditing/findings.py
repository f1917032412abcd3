"""Run the attacks of an audit, with those that follow warnings, or sequentially."""

from collections.abc import Collection
from dataclasses import dataclass, field

from torch import Tensor

from faal_core.auditing import reliability
from faal_core.auditing.adversarial import AdversarialImages
from faal_core.auditing.escalation import evaluate_and_escalate
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.processes import Executors
from faal_core.auditing.sequential import evaluate_sequentially
from faal_core.progress import Progress
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.ledger import Ledger
from faal_core.results.sequential_documents import SequentialResult
from faal_core.specs import AttackSpec, AuditSpec, Escalation, SourceNetwork


@dataclass(frozen=True, slots=True)
class Findings:
    """Holds the outcomes of the audited images, and all that the attacks showed.

    Args:
        rows: places of the audited images in the data; None where all were audited.
    """

    evaluation: Evaluation
    attacks: tuple[AttackRow, ...]
    warnings: tuple[ReliabilityWarning, ...]
    escalation: Escalation | None = None
    sequential: SequentialResult | None = None
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class AuditAttacks:
    """Runs the attacks of an audit: on all images, or sequentially.

    Args:
        checks: of the evaluator's classifier. They examine its gradients after the clean predictions, which so come sooner.
        adversarial: stores the images that break others, where the audit keeps them.
        compute: whether to compute what the ledger lacks.
    """

    evaluator: Evaluator
    spec: AuditSpec
    checks: reliability.ClassifierChecks
    batches: Ledger
    progress: Progress
    executors: Executors
    adversarial: AdversarialImages | None
    compute: bool = field(kw_only=True)

    def run(self, paired_codes: Collection[str], sources: Collection[SourceNetwork]) -> Findings:
        """Return the outcomes of the images, and the warnings of the checks with those about the attacks.

        Args:
            paired_codes, sources: as for `evaluate_and_escalate`.
        """
        spec, checks, images = self.spec, self.checks, len(self.evaluator.data)
        if spec.sequential is None:
            escalated = evaluate_and_escalate(
                self._evaluate, spec, checks, images, self.progress, paired_codes, sources
            )
            return Findings(*escalated)
        decided = evaluate_sequentially(
            self.evaluator,
            spec,
            spec.sequential,
            self.progress,
            self.batches,
            compute=self.compute,
            open_executor=self.executors,
            side_work=self.checks.measure_gradients(),
        )
        about_attacks = reliability.examine_attacks(spec.attacks, decided.attacks, len(decided.rows))
        return Findings(
            decided.evaluation,
            decided.attacks,
            (*checks.warnings, *about_attacks),
            sequential=decided.result,
            rows=decided.rows,
        )

    def _evaluate(
        self, attacks: tuple[AttackSpec, ...], progress: Progress
    ) -> tuple[Evaluation, tuple[AttackRow, ...]]:
        return evaluate(
            self.evaluator,
            self.spec.threat,
            attacks,
            progress,
            self.batches,
            compute=self.compute,
            certify_images=self.spec.certify,
            adversarial=self.adversarial,
            open_executor=self.executors,
            side_work=self.checks.measure_gradients(),
        )
