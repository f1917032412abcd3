"""Define the specs of training and of fine-tuning, which surrounds the training by two audits."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from faal_core.catalog import Augmentation
from faal_core.specs.attacks import list_sources
from faal_core.specs.audit import AuditSettings, AuditSpec
from faal_core.specs.methods import AnyMethod, FaalMethod, HeadMethod, HwnwbMethod, MethodSpec, TrainingMethod
from faal_core.specs.spec import Spec
from faal_core.threat_model import ThreatModel

INTERPOLATIONS = (0.25, 0.5, 0.75)
"""Points between the first weights (0) and the best epoch's (1) that are validated too; 0 and 1 always are."""

CHANGE_SCALES = (*INTERPOLATIONS, 1.0)
"""Scales of a change of the last layer that are tried: of class offsets in their search, of any change in validation."""

OFFSET_TARGETS = 4
"""Number of other classes per image, the likeliest ones, whose margins determine the class offsets."""


class TrainingAttack(Spec):
    """Configures the inner maximum: PGD from one random start, every step on every image."""

    steps: int = Field(10, ge=1, le=5_000)
    relative_step: float = Field(
        0.25, gt=0, le=2, description="Step size as a fraction of ε: 0.25 is 2/255 at ε = 8/255."
    )
    loss: Literal["cross-entropy", "margin", "kl"] | None = Field(
        None,
        description="Loss that the attack maximises. kl, the divergence from the clean output, starts 0.001 · N(0, 1) "
        "away from the image; the others start at a uniform point of the ball. When absent, the method decides: kl "
        "for the losses trades and mart, the cross-entropy for at.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="Number format of convolutions and matrix products in the attack. auto: bfloat16 where the device has "
        "instructions for it. If `training.precision` is bfloat16, the attack uses bfloat16, too. Steps, losses of "
        "the training, validation and audits do not depend on it.",
    )

    def __str__(self) -> str:
        return f"PGD-{self.steps}"


class WeightPerturbation(Spec):
    """Configures adversarial weight perturbation (Wu et al. 2020): gradients are computed at slightly worse weights."""

    gamma: float = Field(
        0.005, gt=0, le=1, description="γ, the norm of the weight perturbation, as a fraction of each layer's norm."
    )
    weighted: bool = Field(
        False,
        description="Whether the weight perturbation raises the loss with class weights; in the paper every image "
        "counts equally.",
    )


class Averaging(Spec):
    """Configures a moving average of the weights, which is validated and kept in place of the weights."""

    decay: float = Field(0.999, ge=0, lt=1, description="Fraction of the average that is kept at each update.")
    every: Literal["step", "epoch"] = Field("step", description="How often the average is updated with the weights.")
    min_robust_worst: float = Field(
        0,
        ge=0,
        le=1,
        description="Update the average only where the worst class's robust accuracy on the validation images is at "
        "least this, after an epoch (Wei et al. 2023: 0.2).",
    )

    @model_validator(mode="after")
    def _check_min_robust_worst(self) -> Self:
        if self.min_robust_worst and self.every == "step":
            raise ValueError(
                "min_robust_worst needs every: epoch, because the worst class is known only after an epoch"
            )
        return self


class TrainingSpec(Spec):
    """Configures how weights are fitted, SGD over adversarial batches, and selected on validation images.

    The methods head and hwnwb train nothing. They use `validation_fraction`, the bounds, `batch_size`, `seed` and the
    attack's `steps` and `relative_step`.
    """

    learning_rates: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.002, 0.0002),
        min_length=1,
        max_length=1000,
        description="Learning rates, one per epoch. The methods head and hwnwb have no epochs and use none.",
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, le=1)
    batch_size: int = Field(128, ge=2, le=100_000)
    schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="Learning rate within an epoch. constant: the epoch's own rate. linear: from the previous epoch's "
        "rate to its own (the first epoch starts at 0).",
    )
    attack: TrainingAttack = TrainingAttack()
    weight_perturbation: WeightPerturbation | None = None
    averaging: Averaging | None = None
    augment: Augmentation | None = Field(
        None,
        description="Random change of each training image before the attack: cropping after padding by 1/8 of its "
        "side (crop), mirroring left to right (flip), both, or none. null applies the changes that the data set "
        "states to preserve its labels: none for uploads.",
    )
    clean_forward: bool = Field(
        True, description="Whether to pass the clean batch forward in train mode too, for batch-norm's statistics."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Number format of convolutions and matrix products in training. Weights, losses and validation "
        "accuracies are float32 in both.",
    )
    validation_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Fraction of the training images that is used for validation, to choose the weights.",
    )
    max_robust_drop: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="Largest allowed fall of the mean robust accuracy below that of the given weights, over all "
        "images and over the classes, on the validation images, with half a standard error. null sets no bound.",
    )
    max_clean_drop: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="Largest allowed fall of the mean clean accuracy on the validation images. null sets no bound.",
    )
    max_class_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest allowed fall of the clean and of the robust accuracy of every single class on the "
        "validation images. null sets no bound.",
    )
    seed: int = Field(0, ge=0, lt=2**31)

    @property
    def epochs(self) -> int:
        """Return the number of epochs of a method that trains: one per learning rate."""
        return len(self.learning_rates)

    def learning_rate(self, epoch: int, fraction: float) -> float:
        """Return the learning rate at a fraction of an epoch; epochs count from 0."""
        rates = self.learning_rates
        if self.schedule == "constant":
            return rates[epoch]
        before = rates[epoch - 1] if epoch else 0.0
        return before + fraction * (rates[epoch] - before)

    @property
    def has_bounds(self) -> bool:
        """Return whether weights are chosen within bounds; otherwise the best epoch's weights are kept, whatever they cost."""
        bounds = (self.max_robust_drop, self.max_clean_drop, self.max_class_drop)
        return bool(self.validation_fraction) and any(bound is not None for bound in bounds)


_PAPER: dict[str, dict[str, object]] = {
    "method": {"type": "faal", "loss": "at", "dro_radius": 0.5, "class_offsets": False},
    "training": {
        "learning_rates": (0.01, 0.001),
        "augment": "crop-flip",
        "max_robust_drop": None,
        "max_clean_drop": None,
        "max_class_drop": None,
    },
}


def _merge(published: dict[str, object], request: object) -> object:
    """Return the published fields, overridden by those of the request; the request alone where it names another method."""
    if request is None:
        return published
    fields = request.model_dump(exclude_unset=True) if isinstance(request, Spec) else request
    kind = request.type if isinstance(request, AnyMethod) else fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or (kind or "faal") != published.get("type", "faal"):
        return request
    return {**published, **fields}


class FinetuneSpec(Spec):
    """Configures how a classifier is fine-tuned: audited, trained, and audited again on the same test images."""

    preset: Literal["paper"] | None = Field(
        None,
        description="paper: FAAL as published (Zhang et al., CVPR 2024), for comparison. Other fields of the request "
        "override it.",
    )
    threat: ThreatModel
    method: MethodSpec = FaalMethod()
    training: TrainingSpec = TrainingSpec()
    audit: AuditSettings = AuditSettings()

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, request: object) -> object:
        """Return the request on top of the published values, where it names the preset."""
        if not isinstance(request, dict) or request.get("preset") != "paper":
            return request
        return {**request, **{name: _merge(values, request.get(name)) for name, values in _PAPER.items()}}

    @model_validator(mode="after")
    def _refuse_sources(self) -> Self:
        if list_sources(self.audit.attacks):
            raise ValueError(
                "the audits of a fine-tuning follow no gradients of a named network; after warnings, they follow those of the "
                "given weights by themselves. Leave out the attacks of type transfer"
            )
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> Self:
        if not self.epochs and not self.training.has_bounds:
            raise ValueError(
                f"{self.method.type} chooses weights by bounds on validation images, so validation_fraction must be more than 0, "
                "and one of max_robust_drop, max_clean_drop and max_class_drop a number"
            )
        if self.method.type in ("frl", "cfa", "wat") and not self.training.validation_fraction:
            raise ValueError(
                f"{self.method.type} learns from validation images, so validation_fraction must be more than 0"
            )
        if self.method.type == "decosam" and self.training.weight_perturbation:
            raise ValueError("decosam perturbs weights in its own way; leave out weight_perturbation")
        if (
            self.training.averaging
            and self.training.averaging.min_robust_worst
            and not self.training.validation_fraction
        ):
            raise ValueError(
                "min_robust_worst is measured on validation images, so validation_fraction must be more than 0"
            )
        return self

    @property
    def epochs(self) -> int:
        """Return the number of epochs; 0 for a method that changes the last layer alone."""
        return self.training.epochs if isinstance(self.method, TrainingMethod) else 0

    @property
    def begins_with_offsets(self) -> bool:
        """Return whether class offsets are sought; this needs bounds on validation images to judge them."""
        if isinstance(self.method, TrainingMethod):
            return self.method.class_offsets and self.training.has_bounds
        return isinstance(self.method, HeadMethod)

    @property
    def changes_head(self) -> bool:
        """Return whether weights with a changed last layer are validated before any training."""
        return self.begins_with_offsets or isinstance(self.method, HwnwbMethod)

    @property
    def loss(self) -> Literal["at", "trades", "mart"]:
        """Return the loss of a step; at where no steps are made."""
        return self.method.loss if isinstance(self.method, TrainingMethod) else "at"

    @property
    def attack_loss(self) -> Literal["cross-entropy", "margin", "kl"]:
        """Return the loss that the attack on training images maximises; margin where the method does not train."""
        if not self.epochs:
            return "margin"
        return self.training.attack.loss or ("cross-entropy" if self.loss == "at" else "kl")

    @property
    def audit_spec(self) -> AuditSpec:
        """Return the spec of the audits before and after the training."""
        return AuditSpec(threat=self.threat, **self.audit.model_dump())
