"""The progress of a whole fine-tuning follows its stages, weighed by their passes."""

from itertools import pairwise

import pytest

from faal_core.results import cost
from faal_core.results.course import FinetuneCourse
from faal_core.specs import (
    AuditSettings,
    FinetuneSpec,
    HeadMethod,
    HwnwbMethod,
    MethodSpec,
    PgdSpec,
    TrainingAttack,
    TrainingSpec,
)
from faal_core.threat_model import ThreatModel

SPEC = FinetuneSpec(
    threat=ThreatModel(epsilon=0.1),
    training=TrainingSpec(learning_rates=(0.1, 0.01), attack=TrainingAttack(steps=5)),
    audit=AuditSettings(attacks=(PgdSpec(steps=10),), images=50),
)
TRAINING, TEST, CLASSES = 400, 100, 4


def test_stages_have_the_places_of_their_passes() -> None:
    """Before each stage, the finished fraction is that of the passes of all stages before it."""
    audit = cost.audit_cost(SPEC.audit, TEST, CLASSES).most
    search, starts, ending = cost.count_surrounding_passes(SPEC, TRAINING, CLASSES)
    beginning = search + starts
    training = cost.training_cost(SPEC, TRAINING, CLASSES).most
    whole = 2 * audit + training
    places = {
        "before: clean": 0,
        f"before: {PgdSpec(steps=10)}": 50,
        "class offsets": audit,
        "epoch 1 of 2": audit + beginning,
        "epoch 2 of 2": audit + beginning + (training - beginning - ending) / 2,
        "after: clean": audit + training,
    }
    course = FinetuneCourse(SPEC, TRAINING, TEST, CLASSES)
    for stage, passes in places.items():
        course.begin(stage)
        assert course.fraction(0) == pytest.approx(passes / whole), stage
    course.begin(f"after: {PgdSpec(steps=10)}")
    assert course.fraction(1) == pytest.approx(1)


@pytest.mark.parametrize("method", [HeadMethod(), HwnwbMethod()])
def test_weights_are_judged_without_an_epoch(method: MethodSpec) -> None:
    """Without training, the five weights are judged between the search, if there is one, and the second audit."""
    spec = SPEC.model_copy(update={"method": method})
    course = FinetuneCourse(spec, TRAINING, TEST, CLASSES)
    course.begin(f"before: {PgdSpec(steps=10)}")
    if spec.begins_with_offsets:
        course.begin("class offsets")
    fractions = [course.fraction(1)]
    for _ in range(5):
        course.begin("validation: clean")
        fractions.append(course.fraction(1))
    course.begin("after: clean")
    assert course.fraction(0) == pytest.approx(fractions[-1])
    whole = 2 * cost.audit_cost(SPEC.audit, TEST, CLASSES).most + cost.training_cost(spec, TRAINING, CLASSES).most
    judging = cost.count_judging_passes(spec, TRAINING, CLASSES)
    steps = [after - before for before, after in pairwise(fractions)]
    assert steps == pytest.approx([judging / whole] * 5)


def test_the_candidates_are_judged_between_training_and_audit() -> None:
    """Each judgement of weights after the last epoch adds its passes, at most as many as are estimated; no stage goes back."""
    course = FinetuneCourse(SPEC, TRAINING, TEST, CLASSES)
    course.begin("epoch 2 of 2")
    fractions = [course.fraction(1)]
    judging = cost.count_judging_passes(SPEC, TRAINING, CLASSES)
    whole = 2 * cost.audit_cost(SPEC.audit, TEST, CLASSES).most + cost.training_cost(SPEC, TRAINING, CLASSES).most
    for _ in range(30):
        for stage in ("validation: clean", "validation: APGD-10"):
            course.begin(stage)
            fractions.append(course.fraction(1))
    assert fractions[1] - fractions[0] == pytest.approx(judging / whole)
    course.begin("after: clean")
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(course.fraction(0))
    course.begin("before: clean")
    assert course.fraction(0) == fractions[-1]
