"""The form that starts a job makes the same request as the API."""

import pytest

from api.pages.start_form import StartForm
from api.problems.errors import InvalidRequest
from api.schemas.requests import AuditRequest, FinetuneRequest
from faal_core.specs import AuditSpec, FinetuneSpec
from faal_core.threat_model import ThreatModel
from jobs.states import JobKind

THREAT = ThreatModel(epsilon="8/255")


def test_the_untouched_form_asks_for_the_defaults() -> None:
    """A form in which only the model was chosen requests the library's own defaults at 8/255."""
    request = StartForm.new(model="model_1").request()
    assert isinstance(request, FinetuneRequest)
    assert request.spec == FinetuneSpec.model_validate({"threat": THREAT, "audit": {"attacks": "pgd-20"}})
    request = StartForm(model="model_1", kind=JobKind.AUDIT, images="500").request()
    assert isinstance(request, AuditRequest)
    assert request.spec == AuditSpec.model_validate({"threat": THREAT, "attacks": "pgd-20", "images": 500})


@pytest.mark.parametrize(("epochs", "rates"), [("1", (0.4,)), ("2", (0.4, 0.04)), ("5", (0.4, 0.4, 0.4, 0.04, 0.04))])
def test_the_learning_rate_falls_in_the_second_half(epochs: str, rates: tuple[float, ...]) -> None:
    """The first half of the epochs, rounded up, has the rate given and the others a tenth of it."""
    request = StartForm(model="model_1", epochs=epochs, learning_rate="0.4").request()
    assert isinstance(request, FinetuneRequest)
    assert request.training.learning_rates == pytest.approx(rates)


def test_bounds_are_percentage_points_and_changes_of_images_are_chosen() -> None:
    """Points become rates, an empty bound means no bound, and an augmentation replaces that of the data set."""
    request = StartForm(
        model="model_1", max_robust_drop="2.5", max_clean_drop=" ", max_class_drop="5", augment="crop", steps="7"
    ).request()
    assert isinstance(request, FinetuneRequest)
    training = request.training
    assert training.max_robust_drop == pytest.approx(0.025)
    assert training.max_clean_drop is None
    assert training.max_class_drop == pytest.approx(0.05)
    assert (training.augment, training.attack.steps) == ("crop", 7)


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("model", "", "/model"),
        ("epsilon", "8/0", "/threat/epsilon"),
        ("norm", "l7", "/threat/norm"),
        ("attacks", "strong", "/audit/attacks"),
        ("images", "many", "/audit/images"),
        ("method", "magic", "/method"),
        ("dro_radius", "-1", "/method/dro_radius"),
        ("epochs", "2.5", "/epochs"),
        ("epochs", "100000000000", "/epochs"),
        ("learning_rate", "nan", "/training/learning_rates/0"),
        ("batch_size", "", "/training/batch_size"),
        ("steps", "0", "/training/attack/steps"),
        ("augment", "turn", "/training/augment"),
        ("max_robust_drop", "a little", "/training/max_robust_drop"),
        ("max_clean_drop", "101", "/training/max_clean_drop"),
        ("max_clean_drop", "nan", "/training/max_clean_drop"),
        ("max_class_drop", "a lot", "/training/max_class_drop"),
    ],
)
def test_faults_are_pointed_to(field: str, value: str, pointer: str) -> None:
    """Any invalid value of a field is refused with the field's name, never by a defect."""
    with pytest.raises(InvalidRequest) as error:
        StartForm(**{"model": "model_1", "epochs": "1", field: value}).request()
    assert error.value.fields[0].pointer == pointer
