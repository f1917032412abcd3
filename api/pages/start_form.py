"""The form that starts a job, as text; what it says is judged as the API's own requests are."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from api.problems.errors import InvalidRequest
from api.schemas.requests import AuditRequest, FinetuneRequest
from faal_core.specs import AuditSettings, FaalMethod, TrainingSpec
from jobs.states import JobKind

MAX_EPOCHS = 1000
_TRAINING = TrainingSpec()

Fields = dict[str, JsonValue]


def _points(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:g}"


class StartForm(BaseModel):
    """The fields as a person left them; a field that was emptied is an empty string."""

    model_config = ConfigDict(frozen=True, str_max_length=200)

    kind: Literal[JobKind.FINETUNE, JobKind.AUDIT] = JobKind.FINETUNE
    model: str = ""
    dataset: str = "fashion-mnist-subset"
    norm: str = "linf"
    epsilon: str = "8/255"
    attacks: str = "pgd-20"
    images: str = ""
    method: str = FaalMethod().type
    dro_radius: str = str(FaalMethod().dro_radius)
    epochs: str = str(_TRAINING.epochs)
    learning_rate: str = str(_TRAINING.learning_rates[0])
    batch_size: str = str(_TRAINING.batch_size)
    steps: str = str(_TRAINING.attack.steps)
    augment: str = ""
    max_robust_drop: str = _points(_TRAINING.max_robust_drop)
    max_clean_drop: str = _points(_TRAINING.max_clean_drop)
    max_class_drop: str = _points(_TRAINING.max_class_drop)
    seed: str = str(AuditSettings().seed)

    def request(self) -> FinetuneRequest | AuditRequest:
        """What the API would be asked for. Raises: InvalidRequest."""
        threat: Fields = {"norm": self.norm, "epsilon": self.epsilon.strip()}
        about: Fields = {"model": self.model, "dataset": self.dataset, "threat": threat}
        audit: Fields = {"attacks": self.attacks, "images": self.images.strip() or None, "seed": self.seed}
        if self.kind is JobKind.AUDIT:
            return _validated(AuditRequest, {**about, **audit})
        rates = self._learning_rates()
        training: Fields = {
            "learning_rates": rates,
            "batch_size": self.batch_size,
            "attack": {"steps": self.steps},
            "augment": self.augment or None,
            "max_robust_drop": _rate("/training/max_robust_drop", self.max_robust_drop),
            "max_clean_drop": _rate("/training/max_clean_drop", self.max_clean_drop),
            "max_class_drop": _rate("/training/max_class_drop", self.max_class_drop),
            "seed": self.seed,
        }
        method: Fields = {"type": self.method}
        if self.method == FaalMethod().type:
            method["dro_radius"] = self.dro_radius
        finetuning: Fields = {"method": method, "training": training, "audit": audit}
        return _validated(FinetuneRequest, {**about, **finetuning})

    def _learning_rates(self) -> list[JsonValue]:
        """One per epoch: the first half at the rate given, the second at a tenth of it, as the defaults do."""
        try:
            epochs, rate = int(self.epochs), float(self.learning_rate)
        except ValueError:
            raise InvalidRequest.at("/epochs", "epochs is a whole number, and the learning rate a number") from None
        if not 1 <= epochs <= MAX_EPOCHS:
            raise InvalidRequest.at("/epochs", f"between 1 and {MAX_EPOCHS}, not {epochs}")
        first = (epochs + 1) // 2
        return [*[rate] * first, *[rate / 10] * (epochs - first)]


def _rate(pointer: str, points: str) -> float | None:
    """Return percentage points as a rate, or None for no bound where the field is empty. Raises: InvalidRequest."""
    try:
        return float(points) / 100 if points.strip() else None
    except ValueError:
        raise InvalidRequest.at(pointer, f"{points[:40]!r} is no number of percentage points") from None


def _validated(kind: type[FinetuneRequest | AuditRequest], asked: Fields) -> FinetuneRequest | AuditRequest:
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        raise InvalidRequest.of(error, asked) from None
