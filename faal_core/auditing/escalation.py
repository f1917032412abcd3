"""Follow warnings that gradients cannot be trusted with further attacks, on the images that are still robust."""

from collections.abc import Callable, Collection

from pydantic import BaseModel

from faal_core.auditing import reliability
from faal_core.auditing.mean_of_draws import MeanOfDraws
from faal_core.classifier import Classifier, Images, Labels
from faal_core.progress import Progress
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.results.image_outcomes import Evaluation
from faal_core.specs import AttackSpec, AuditSpec, Escalation, SourceNetwork
from faal_core.specs.escalation import DRAWS, RANDOM, plan_escalation

Evaluate = Callable[[tuple[AttackSpec, ...], Progress], tuple[Evaluation, tuple[AttackRow, ...]]]
"""Evaluates attacks; an attack that was evaluated before keeps its results and costs nothing."""


def evaluate_and_escalate(
    evaluate: Evaluate,
    spec: AuditSpec,
    checks: reliability.ClassifierChecks,
    images: int,
    progress: Progress,
    paired_codes: Collection[str] = (),
    sources: Collection[SourceNetwork] = (),
) -> tuple[Evaluation, tuple[AttackRow, ...], tuple[ReliabilityWarning, ...], Escalation | None]:
    """Return the evaluation of the spec's attacks and of those that follow warnings, all warnings, and what followed.

    Args:
        checks: of the attacked classifier; their warnings come first, and those about the attacks are added.
        images: number of audited images.
        paired_codes: codes of the warnings of another audit, which must have the same attacks to be compared with this one.
        sources: networks of the evaluator, whose gradients attacks follow after a warning.
    """
    evaluation, rows = evaluate(spec.attacks, progress)
    warnings = (*checks.warnings, *reliability.examine_attacks(spec.attacks, rows, images))
    codes = {warning.code for warning in warnings} | set(paired_codes)
    escalation = plan_escalation(codes, spec.attacks, sources) if spec.escalates else None
    if escalation is None or not escalation.steps:
        return evaluation, rows, warnings, escalation
    left = int(evaluation.robust.sum())
    evaluation, rows = evaluate((*spec.attacks, *escalation.attacks), _Continuation(progress, len(rows)))
    return evaluation, rows, tuple(_add_result(one, escalation, rows, left) for one in warnings), escalation


def choose_classifier(
    classifier: Classifier, x: Images, y: Labels, spec: AuditSpec, paired_codes: Collection[str] = ()
) -> reliability.ClassifierChecks:
    """Return the checks of the classifier to attack, which have examined its outputs, but not yet its gradients.

    It is the mean of several draws where the outputs are random and the spec has the audit escalate.

    Args:
        x, y: a sample of the images and their labels.
        paired_codes: as for `evaluate_and_escalate`.
    """
    checks = reliability.ClassifierChecks(classifier, x, y, spec.threat)
    if not spec.escalates or RANDOM not in {*(one.code for one in checks.about_outputs), *paired_codes}:
        return checks
    mean = MeanOfDraws(classifier, DRAWS).eval()
    mean.choose_layout(x)
    random_output = tuple(one for one in checks.about_outputs if one.code == RANDOM)
    return reliability.ClassifierChecks(mean, x, y, spec.threat, random_output)


def _add_result(
    warning: ReliabilityWarning, escalation: Escalation, rows: tuple[AttackRow, ...], left: int
) -> ReliabilityWarning:
    """Return the warning; if attacks followed it, its evidence says how many of the images that were left they broke."""
    if all(warning.code not in step.warnings for step in escalation.steps):
        return warning
    own = rows[-len(escalation.steps) :]
    broken = sum(row.broken for row in own)
    subject = "a further attack" if len(own) == 1 else f"{len(own)} further attacks"
    sentence = f"{subject} broke {broken:,} of the {left:,} images that were still robust"
    return warning.model_copy(update={"evidence": f"{warning.evidence}; {sentence}"})


class _Continuation:
    """Passes on the progress of an evaluation from the attack with that number on: the others were reported before."""

    def __init__(self, whole: Progress, attacks: int) -> None:
        self._whole, self._left = whole, attacks + 1  # the clean predictions are the first stage

    def stage(self, name: str, total: int) -> None:
        """Begin the stage, unless it was reported before."""
        self._left -= 1
        if self._left < 0:
            self._whole.stage(name, total)

    def advance(self, count: int = 1) -> None:
        """Count units of a new stage; ask whether to stop in any case."""
        self._whole.advance(count if self._left < 0 else 0)

    def set_eta(self, seconds: float) -> None:
        """Set the estimate of the whole."""
        self._whole.set_eta(seconds)

    def record(self, row: BaseModel) -> None:
        """Record the row of a new attack."""
        if self._left < 0:
            self._whole.record(row)

    def replay(self, row: BaseModel) -> None:
        """Record the row of a new attack again."""
        if self._left < 0:
            self._whole.replay(row)

    def time_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._whole.time_left()
