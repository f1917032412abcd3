"""Test that valid specs are accepted, and that invalid ones are refused with a reason."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.results.older_documents import upgrade_spec
from faal_core.specs import AuditSpec, ClassifierSpec, FaalMethod, FinetuneSpec, TrainingSpec, UniformMethod
from faal_core.threat_model import Norm, ThreatModel, format_radius


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.1", 0.1), (0.25, 0.25), ("1e-2", 0.01)])
def test_radius_forms(text: object, value: float) -> None:
    """A radius may be a number, a decimal or a fraction."""
    assert ThreatModel(epsilon=text).epsilon == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["8/0", "-1/255", 0, "nan", "inf", float("nan"), "eight", True, None, [], "1e400", "1e999999999", 8]
)
def test_radius_refused(text: object) -> None:
    """A radius that is no number, not finite, not positive, or in L∞ beyond the pixel range raises a field error."""
    with pytest.raises(ValidationError):
        ThreatModel(epsilon=text)


def test_the_attack_in_training_has_one_start() -> None:
    """Restarts of the attack in training are refused, because the training loop makes none."""
    with pytest.raises(ValidationError, match=r"attack\.restarts"):
        TrainingSpec.model_validate({"attack": {"restarts": 2}})


def test_l2_radius_may_exceed_one() -> None:
    """An L2 radius is not bounded by the pixel range."""
    assert ThreatModel(norm=Norm.L2, epsilon=2).epsilon == 2


@pytest.mark.parametrize(
    ("radius", "text"), [(8 / 255, "8/255"), (0.1, "0.1"), (0.3, "0.3"), (1.0, "1"), (128.0, "128")]
)
def test_radius_is_written_as_a_fraction(radius: float, text: str) -> None:
    """A radius of whole 255ths below 1 is written as a fraction, and any other as a number."""
    assert format_radius(radius) == text


def test_preset_becomes_its_attacks() -> None:
    """A preset's name is replaced by its attacks, so that a report shows every number."""
    spec = AuditSpec(threat={"epsilon": "8/255"}, attacks="pgd-20")
    assert [(attack.loss, attack.steps) for attack in spec.attacks] == [("cross-entropy", 20), ("margin", 20)]


@pytest.mark.parametrize(
    ("fields", "path", "says"),
    [
        ({"attacks": "pgd-2000"}, ("audit", "attacks"), "did you mean"),
        ({"attacks": []}, ("audit", "attacks"), "at least 1"),
        ({"colour": 1}, ("audit", "colour"), "not permitted"),
        ({"confidence": 1.0}, ("audit", "confidence"), "less than 1"),
    ],
)
def test_errors_point_at_their_field(fields: dict[str, object], path: tuple[str, ...], says: str) -> None:
    """An invalid field is reported with its path and a reason."""
    with pytest.raises(ValidationError) as exception:
        FinetuneSpec(threat={"epsilon": 0.1}, audit=fields)
    (error,) = exception.value.errors()
    assert error["loc"] == path
    assert says in error["msg"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"architecture": "resnet-18"}, "no architecture named"),
        ({"mean": (0.5, 0.5)}, "2 channels"),
        ({"std": (0.0,)}, "positive"),
        ({"class_names": ("a",)}, "1 class names for 10"),
        ({"class_names": ("a",) * 10}, "same name"),
        ({"class_names": ("", *"bcdefghij")}, "a name has 1 to 100 characters"),
        ({"class_names": ("1" * 5000, *"bcdefghij")}, "a name has 1 to 100 characters"),
        ({"class_names": ("a\n", *"bcdefghij")}, "no control characters"),
        ({"arguments": {"width": 1000}}, "between 8 and 64"),
        ({"arguments": {"depth": 3}}, "no argument 'depth'"),
    ],
)
def test_classifier_spec_refused(fields: dict[str, object], says: str) -> None:
    """A classifier spec that contradicts itself or the catalog is refused with the reason."""
    with pytest.raises(ValidationError, match=says):
        ClassifierSpec(**{"architecture": "small_resnet", "num_classes": 10, **fields})


@pytest.mark.parametrize(("preset", "radius", "rates"), [("paper", 0.5, (0.01, 0.001)), (None, 0.2, (0.002, 0.0002))])
def test_the_rest_is_as_published_by_default(preset: str | None, radius: float, rates: tuple[float, float]) -> None:
    """The defaults are two epochs, PGD-10 with steps of ε/4, SGD 0.9 and 5e-4; r and the rates are below the paper's."""
    spec = FinetuneSpec(threat={"epsilon": "8/255"}, preset=preset)
    assert spec.method.dro_radius == radius
    assert spec.training.learning_rates == rates
    assert (spec.training.attack.steps, spec.training.attack.relative_step) == (10, 0.25)
    assert (spec.training.momentum, spec.training.weight_decay, spec.training.batch_size) == (0.9, 5e-4, 128)


def test_given_fields_override_the_paper_preset() -> None:
    """The preset is FAAL as published; given fields and another method override it; a stored spec is read unchanged."""
    threat = {"epsilon": "8/255"}
    paper = FinetuneSpec.model_validate({"threat": threat, "preset": "paper"})
    assert (paper.method.dro_radius, paper.training.max_robust_drop) == (0.5, None)
    assert paper.training.learning_rates == (0.01, 0.001)
    fields = {"threat": threat, "preset": "paper", "method": {"dro_radius": 0.3}, "training": {"batch_size": 64}}
    own = FinetuneSpec.model_validate(fields)
    assert (own.method.dro_radius, own.training.batch_size, own.training.max_robust_drop) == (0.3, 64, None)
    assert FinetuneSpec(threat=threat, preset="paper", training=TrainingSpec(seed=3)).training.max_robust_drop is None
    for method in ({"type": "uniform"}, UniformMethod()):
        uniform = FinetuneSpec.model_validate({"threat": threat, "preset": "paper", "method": method})
        assert uniform.method == UniformMethod()
    for spec in (paper, own, uniform):
        assert FinetuneSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValidationError, match="preset"):
        FinetuneSpec.model_validate({"threat": threat, "preset": "papers"})


@pytest.mark.parametrize(
    "name", ["linf", "Linf", "LINF", "Linf ", "l_inf", "L-inf", "L∞", "ℓ∞", "inf", "L_infinity", "∞"]
)
def test_all_names_of_the_linf_norm_are_accepted(name: str) -> None:
    """All common names of the norm L∞ give the same threat model."""
    assert ThreatModel.model_validate({"norm": name, "epsilon": "8/255"}) == ThreatModel(epsilon=8 / 255)


@pytest.mark.parametrize("name", ["l2", "L2", " L2 ", "ℓ2", "ℓ₂", "L_2", "l2-norm", "Euclidean"])
def test_all_names_of_the_l2_norm_are_accepted(name: str) -> None:
    """All common names of the norm L2 give the same threat model."""
    assert ThreatModel.model_validate({"norm": name, "epsilon": 0.5}) == ThreatModel(norm=Norm.L2, epsilon=0.5)


@pytest.mark.parametrize("name", ["l1", "", "l22", "linfo", "l", "norm"])
def test_another_norm_is_refused_with_those_that_are_offered(name: str) -> None:
    """The error for an unknown norm names both norms."""
    with pytest.raises(ValidationError, match="write linf or l2"):
        ThreatModel.model_validate({"norm": name, "epsilon": 0.5})


@pytest.mark.parametrize("name", ["autoattack", "AutoAttack", "auto-attack", "aa", "AA", "Standard"])
def test_autoattack_is_the_standard_protocol(name: str) -> None:
    """The name AutoAttack, in any spelling, gives its standard protocol."""
    spec = {"threat": {"epsilon": 0.1}}
    assert AuditSpec.model_validate(spec | {"attacks": name}) == AuditSpec.model_validate(
        spec | {"attacks": "standard"}
    )


@pytest.mark.parametrize(("name", "preset"), [("pgd20", "pgd-20"), ("PGD-100", "pgd-100"), ("Fast", "fast")])
def test_presets_are_found_without_their_dashes(name: str, preset: str) -> None:
    """A preset is found by its name without its dashes, and in any case."""
    assert catalog.preset(name).name == preset


@pytest.mark.parametrize(
    ("look_up", "name", "near"),
    [
        (catalog.architecture, "ResNet18", "torchvision/resnet18"),
        (catalog.architecture, "WRN-34-10", "wrn_34_10"),
        (catalog.architecture, "preactresnet", "preact_resnet18"),
        (catalog.dataset, "CIFAR-10", "cifar10"),
        (catalog.dataset, "fashion_mnist", "fashion-mnist"),
    ],
)
def test_a_misspelt_name_leads_to_the_near_ones(look_up: Callable[[str], object], name: str, near: str) -> None:
    """The error for a misspelt name suggests similar names, ignoring case and signs, and says where all names are listed."""
    with pytest.raises(UnknownName, match="GET /catalog list all") as error:
        look_up(name)
    assert near in error.value.message


@pytest.mark.parametrize("bound", [0.02, None])
def test_the_spec_of_an_older_report_keeps_its_meaning(bound: float | None) -> None:
    """An old `mean_may_fall` stays the only bound; a bound by its new name overrides it."""

    def read(**training: object) -> TrainingSpec:
        return TrainingSpec.model_validate(upgrade_spec({"training": training})["training"])

    earlier = read(mean_may_fall=bound)
    assert (earlier.max_robust_drop, earlier.max_clean_drop, earlier.has_bounds) == (bound, None, bound is not None)
    both = read(mean_may_fall=bound, max_robust_drop=0.3, max_clean_drop=0.2)
    assert (both.max_robust_drop, both.max_clean_drop) == (0.3, 0.2)


def test_the_radius_of_faal_is_named_as_that_of_its_distributions() -> None:
    """FAAL's radius is called DRO radius r, to distinguish it from ε."""
    assert str(FaalMethod(dro_radius=0.2)) == "FAAL (at, DRO radius r = 0.2)"


def test_a_spec_has_room_for_a_name_of_each_class() -> None:
    """10,000 class names are accepted in a spec and inside others; ten times as many raise a single error."""
    names = [f"class {number}" for number in range(100_000)]
    spec_fields = {"architecture": "small_resnet", "num_classes": 10_000, "class_names": names[:10_000]}
    assert ClassifierSpec.model_validate(spec_fields).class_names == tuple(names[:10_000])
    for fields in (
        {**spec_fields, "class_names": names},
        spec_fields | dict.fromkeys(names),
        spec_fields | {"mean": [[names]]},
    ):
        with pytest.raises(ValidationError, match="has more than 12,000 fields and items") as error:
            ClassifierSpec.model_validate(fields)
        assert error.value.error_count() == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"epsilon": "9" * 10**6},
        {"epsilon": "x" * 10**6},
        {"epsilon": 0.1, "norm": "\ufdfa" * 10**6},
        {"epsilon": 0.1, "norm": "l2" + " " * 10**6},
    ],
)
def test_a_long_value_is_repeated_in_part(fields: dict[str, object]) -> None:
    """The error for a radius or norm of a million characters has at most 200 characters."""
    with pytest.raises(ValidationError) as error:
        ThreatModel.model_validate(fields)
    assert len(error.value.errors()[0]["msg"]) < 200


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, "set min_worst, min_class or both"),
        ({"min_worst": 1.5}, "less than or equal to 1"),
        ({"min_class": {"a\0": 0.5}}, "no class is called"),
    ],
)
def test_limits_of_a_sequential_audit_are_refused(limits: dict[str, object], says: str) -> None:
    """A sequential audit needs a limit, limits are rates, and a class has no control character in its name."""
    with pytest.raises(ValidationError, match=says):
        AuditSpec(threat={"epsilon": 0.1}, sequential=limits)
