"""The form that starts a job. Its fields become a request to the API, with the same validation."""

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
    """The fields of the form as text; an empty field is an empty string."""

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
        """Return the form as a request to the API. Raises: InvalidRequest."""
        threat: Fields = {"norm": self.norm, "epsilon": self.epsilon.strip()}
        common: Fields = {"model": self.model, "dataset": self.dataset, "threat": threat}
        audit: Fields = {"attacks": self.attacks, "images": self.images.strip() or None, "seed": self.seed}
        if self.kind is JobKind.AUDIT:
            return _validate(AuditRequest, {**common, **audit})
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
        return _validate(FinetuneRequest, {**common, **finetuning})

    def _learning_rates(self) -> list[JsonValue]:
        """Return a learning rate per epoch: the rate of the form, then a tenth of it for the second half, as in the defaults."""
        try:
            epochs, rate = int(self.epochs), float(self.learning_rate)
        except ValueError:
            raise InvalidRequest.for_field(
                "/epochs",
                f"{self.epochs[:40]!r} epochs at the learning rate {self.learning_rate[:40]!r} cannot be read; give a whole "
                "number of epochs and a decimal number as learning rate",
            ) from None
        if not 1 <= epochs <= MAX_EPOCHS:
            raise InvalidRequest.for_field(
                "/epochs", f"{epochs} is out of bounds; give a number from 1 to {MAX_EPOCHS}"
            )
        first = (epochs + 1) // 2
        return [*[rate] * first, *[rate / 10] * (epochs - first)]


def _rate(pointer: str, points: str) -> float | None:
    """Return percentage points as a rate; None, for no bound, if the field is empty. Raises: InvalidRequest."""
    try:
        return float(points) / 100 if points.strip() else None
    except ValueError:
        raise InvalidRequest.for_field(
            pointer, f"{points[:40]!r} is not a number of percentage points; write a number such as 1.5"
        ) from None


def _validate(kind: type[FinetuneRequest | AuditRequest], fields: Fields) -> FinetuneRequest | AuditRequest:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest.from_pydantic(error, fields) from None
