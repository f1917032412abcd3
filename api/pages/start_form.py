"""The form that starts a job. Its fields become a request to the API, with the same validation."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from api.problems.errors import InvalidRequest
from api.schemas.requests import AuditRequest, FinetuneRequest
from api.uploads import bundled
from faal_client.resources.objects import JobResource
from faal_client.resources.problems import Problem
from faal_core.catalog.onnx_format import ONNX
from faal_core.errors import DatasetMissing, GroupsMissing, InvalidSpec, UnknownName
from faal_core.specs import METHODS, AuditSettings, CellMethod, FaalMethod, TrainingSpec
from faal_core.threat_model import format_radius, parse_radius
from jobs.errors import DatasetNotFound, DatasetNotReady, ModelNotFound, ModelNotReady
from jobs.states import JobKind

MAX_EPOCHS = 1000
_TRAINING = TrainingSpec()

_MORE_SETTINGS = ("attacks", "images", "seed", "learning_rate", "batch_size", "steps", "max_class_drop", "groups")
_BOUNDS = ("max_robust_drop", "max_clean_drop", "max_class_drop")

# Where the request has the value of each field.
_PLACES = {
    "/kind": "kind",
    "/model": "model",
    "/dataset": "dataset",
    "/threat/norm": "norm",
    "/threat": "epsilon",
    "/method/dro_radius": "dro_radius",
    "/method/groups": "groups",
    "/method": "method",
    "/epochs": "epochs",
    "/training/learning_rates": "learning_rate",
    "/training/batch_size": "batch_size",
    "/training/attack": "steps",
    "/training/augment": "augment",
    **{f"/training/{name}": name for name in _BOUNDS},
    **{f"{part}/{name}": name for part in ("", "/audit", "/training") for name in ("attacks", "images", "seed")},
}
_FIELDS_OF_CODES = {
    ModelNotFound.code: "model",
    ModelNotReady.code: "model",
    DatasetNotFound.code: "dataset",
    DatasetNotReady.code: "dataset",
    DatasetMissing.code: "dataset",
    UnknownName.code: "dataset",
    GroupsMissing.code: "groups",
    InvalidSpec.code: "dataset",
}

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
    max_robust_drop: str = ""  # an empty field arrives as its default, so this is "", which means no bound
    max_clean_drop: str = ""
    max_class_drop: str = ""
    groups: str = ""
    seed: str = str(AuditSettings().seed)

    @classmethod
    def new(cls, **fields: str) -> Self:
        """Return the form with the default settings, except these fields."""
        return cls.model_validate({name: _points(getattr(_TRAINING, name)) for name in _BOUNDS} | fields)

    @classmethod
    def for_model(cls, model_id: str, name: str) -> Self:
        """Return the form of an audit of a model; of the bundled one, with settings that take seconds to minutes."""
        if name != bundled.NAME:
            return cls.new(kind=JobKind.AUDIT, model=model_id)
        radius, images = format_radius(bundled.EPSILON), str(bundled.IMAGES)
        return cls.new(
            kind=JobKind.AUDIT,
            model=model_id,
            dataset=bundled.DATASET,
            epsilon=radius,
            attacks="quick",
            images=images,
        )

    @classmethod
    def from_job(cls, job: JobResource) -> Self:
        """Return the form with the settings of an audit or a fine-tuning, as far as it has fields for them."""
        threat, audit = job.spec["threat"], job.spec.get("audit", job.spec)
        fields = {
            "kind": job.kind,
            "model": job.model or "",
            "dataset": job.dataset or "",
            "norm": threat["norm"],
            "epsilon": _radius(threat["epsilon"]),
            "images": "" if audit["images"] is None else str(audit["images"]),
            "seed": str(audit["seed"]),
        }
        if (preset := AuditSettings.model_validate({"attacks": audit["attacks"]}).preset) is not None:
            fields["attacks"] = preset
        if job.kind is JobKind.FINETUNE:
            fields |= _training_fields(job.spec["training"]) | {"method": job.spec["method"]["type"]}
            fields |= {name: str(value) for name, value in job.spec["method"].items() if name == "dro_radius"}
            fields["groups"] = job.spec["method"].get("groups") or ""
        return cls.new(**fields)

    def has_settings_of(self, job: JobResource) -> bool:
        """Return whether the form, sent as it is, has all settings of the job."""
        try:
            return self.request().spec.model_dump(mode="json") == job.spec
        except InvalidRequest:
            return False

    @property
    def has_more_settings(self) -> bool:
        """Return whether a field under "More settings" differs from its default."""
        new = type(self).new()
        return any(getattr(self, name) != getattr(new, name) for name in _MORE_SETTINGS)

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
        if self.groups.strip():
            _require_cells(self.method)
            method["groups"] = self.groups.strip()
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


def _require_cells(method: str) -> None:
    """Check that the method, where there is one of that name, can weigh groups. Raises: InvalidRequest."""
    can_weigh = {one.model_fields["type"].default: issubclass(one, CellMethod) for one in METHODS}
    if not can_weigh.get(method, True):
        able = ", ".join(name for name, can in can_weigh.items() if can)
        raise InvalidRequest.for_field("/method/groups", f"{method} does not weigh groups; choose one of {able}")


def _rate(pointer: str, points: str) -> float | None:
    """Return percentage points as a rate; None, for no bound, if the field is empty. Raises: InvalidRequest."""
    try:
        return float(points) / 100 if points.strip() else None
    except ValueError:
        raise InvalidRequest.for_field(
            pointer, f"{points[:40]!r} is not a number of percentage points; write a number such as 1.5"
        ) from None


def _radius(epsilon: float) -> str:
    """Return a radius as people write it, where that is exact."""
    written = format_radius(epsilon)
    return written if parse_radius(written) == epsilon else repr(epsilon)


def _training_fields(training: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a training's settings."""
    fields = {
        "epochs": str(len(training["learning_rates"])),
        "learning_rate": str(training["learning_rates"][0]),
        "batch_size": str(training["batch_size"]),
        "steps": str(training["attack"]["steps"]),
        "augment": training["augment"] or "",
    }
    return fields | {name: _points(training[name]) for name in _BOUNDS}


def locate_errors(problem: Problem, architecture: str | None) -> dict[str, str]:
    """Return the messages of a problem by the form's fields, in the order of the form.

    Args:
        architecture: of the chosen model, if it is ready.
    """
    located: dict[str, str] = {}
    for error in problem.errors or ():
        name = next((name for place, name in _PLACES.items() if f"{error.pointer}/".startswith(f"{place}/")), None)
        if name is not None:
            located.setdefault(name, error.detail)
    if not problem.errors and (name := _FIELDS_OF_CODES.get(problem.code)) is not None:
        located["model" if name == "dataset" and architecture == ONNX else name] = problem.detail
    return {name: located[name] for name in StartForm.model_fields if name in located}


def _validate(kind: type[FinetuneRequest | AuditRequest], fields: Fields) -> FinetuneRequest | AuditRequest:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest.from_pydantic(error, fields) from None
