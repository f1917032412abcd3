"""Training: how weights are fitted, and the repair around it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from faal_core.catalog import Augmentation
from faal_core.specs.audit import AuditSettings, AuditSpec
from faal_core.specs.methods import AnyMethod, FaalMethod, MethodSpec
from faal_core.specs.spec import Spec
from faal_core.threat_model import ThreatModel

INTERPOLATIONS = (0.25, 0.5, 0.75)
"""Interpolations that are judged between the weights that training begins with and the best epoch's, both ends apart."""

OFFSET_SCALES = (0.0, *INTERPOLATIONS, 1.0)
"""Scales of the class offsets that are judged before training begins, where there are any."""

OFFSET_TARGETS = 4
"""Other classes, the likeliest of each image, whose margins the class offsets are computed from."""


class TrainingAttack(Spec):
    """The inner maximum: PGD from one random start, every step on every image."""

    steps: int = Field(10, ge=1, le=5_000)
    relative_step: float = Field(0.25, gt=0, le=2, description="step size as a share of ε: 0.25 is 2/255 at 8/255")
    loss: Literal["cross-entropy", "margin", "kl"] | None = Field(
        None,
        description="what it climbs; kl, the divergence from the clean answer, starts 0.001 · N(0, 1) away from the image, the "
        "others anywhere in the ball; when absent the method's: kl for trades and mart, the cross-entropy for at",
    )

    def __str__(self) -> str:
        return f"PGD-{self.steps}"


class WeightPerturbation(Spec):
    """Adversarial weight perturbation (Wu et al. 2020): each step is computed where the weights are a little worse."""

    gamma: float = Field(0.005, gt=0, le=1, description="γ: its norm, as a share of each layer's")
    weighted: bool = Field(False, description="of the loss with class weights; in the paper every image counts alike")


class Averaging(Spec):
    """A moving average of the weights is validated and kept in place of the weights."""

    decay: float = Field(0.999, ge=0, lt=1, description="the average keeps this share of itself")
    every: Literal["step", "epoch"] = Field("step", description="how often the weights go into it")
    least_worst: float = Field(
        0,
        ge=0,
        le=1,
        description="only where the worst held-out class is this robust, after an epoch (Wei et al. 2023: 0.2)",
    )

    @model_validator(mode="after")
    def _judged_by_the_epoch(self) -> Self:
        if self.least_worst and self.every == "step":
            raise ValueError("the worst class is known after an epoch: least_worst goes with every: epoch")
        return self


class TrainingSpec(Spec):
    """How weights are fitted: SGD over adversarial batches."""

    learning_rates: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.002, 0.0002), min_length=1, max_length=1000, description="one per epoch"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, le=1)
    batch_size: int = Field(128, ge=2, le=100_000)
    schedule: Literal["constant", "linear"] = Field(
        "constant", description="within an epoch: its own rate, or straight on from the one before (the first from 0)"
    )
    attack: TrainingAttack = TrainingAttack()
    weight_perturbation: WeightPerturbation | None = None
    averaging: Averaging | None = None
    augment: Augmentation | None = Field(
        None,
        description="how each training image is changed at random before the attack: cropped after padding by 1/8 of its side "
        "(crop), mirrored left to right (flip), both, or not at all; null applies what the data set states to preserve its "
        "labels: nothing for uploads",
    )
    clean_forward: bool = Field(
        True, description="forward the clean batch in train mode too, for batch-norm's statistics"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="what convolutions and products are computed in while training; weights, losses and held-out accuracies "
        "are float32 in both",
    )
    held_out_share: float = Field(0.1, ge=0, lt=1, description="of the training images, kept for choosing the epoch")
    max_robust_drop: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="bound on the fall of the mean robust accuracy, over all images and over the classes, below the given "
        "weights', on held-out images, with half a standard error; null sets no bound",
    )
    max_clean_drop: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="bound on the fall of the mean clean accuracy, on the same images; null sets no bound",
    )
    max_class_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="bound on the fall of the clean and of the robust accuracy of every single class, on the same images; "
        "null sets no bound",
    )
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, given: object) -> object:
        """Read specs in which `mean_may_fall` was the only bound."""
        if not isinstance(given, dict) or "mean_may_fall" not in given:
            return given
        fields = {name: value for name, value in given.items() if name != "mean_may_fall"}
        return {"max_robust_drop": given["mean_may_fall"], "max_clean_drop": None, **fields}

    @property
    def epochs(self) -> int:
        """One per learning rate."""
        return len(self.learning_rates)

    def learning_rate(self, epoch: int, fraction: float) -> float:
        """Return the rate at that fraction of an epoch, counted from 0."""
        rates = self.learning_rates
        if self.schedule == "constant":
            return rates[epoch]
        before = rates[epoch - 1] if epoch else 0.0
        return before + fraction * (rates[epoch] - before)

    @property
    def bounded(self) -> bool:
        """Whether weights are chosen within bounds; otherwise the best epoch's are kept, whatever they cost."""
        bounds = (self.max_robust_drop, self.max_clean_drop, self.max_class_drop)
        return bool(self.held_out_share) and any(bound is not None for bound in bounds)


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


def _over(published: dict[str, object], given: object) -> object:
    """The published fields beneath those that were given; nothing of them beneath another method's."""
    if given is None:
        return published
    fields = given.model_dump(exclude_unset=True) if isinstance(given, Spec) else given
    kind = given.type if isinstance(given, AnyMethod) else fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or (kind or "faal") != published.get("type", "faal"):
        return given
    return {**published, **fields}


class FinetuneSpec(Spec):
    """How a classifier is repaired: audited, trained, audited again on the same test images."""

    preset: Literal["paper"] | None = Field(
        None,
        description="paper: FAAL as published (Zhang et al., CVPR 2024), for comparison; whatever is given beside it counts more",
    )
    threat: ThreatModel
    method: MethodSpec = FaalMethod()
    training: TrainingSpec = TrainingSpec()
    audit: AuditSettings = AuditSettings()

    @model_validator(mode="before")
    @classmethod
    def _published_beneath(cls, given: object) -> object:
        """What was given, on top of the published values where these were asked for."""
        if not isinstance(given, dict) or given.get("preset") != "paper":
            return given
        return {**given, **{name: _over(values, given.get(name)) for name, values in _PAPER.items()}}

    @model_validator(mode="after")
    def _held_out_where_needed(self) -> Self:
        if self.method.type in ("frl", "cfa", "wat") and not self.training.held_out_share:
            raise ValueError(f"{self.method.type} learns from held-out images: held_out_share is more than 0")
        if self.training.averaging and self.training.averaging.least_worst and not self.training.held_out_share:
            raise ValueError("least_worst is judged on held-out images: held_out_share is more than 0")
        return self

    @property
    def begins_with_offsets(self) -> bool:
        """Whether class offsets are looked for before the training: where bounds on held-out images can judge them."""
        return self.method.class_offsets and self.training.bounded

    @property
    def attack_loss(self) -> Literal["cross-entropy", "margin", "kl"]:
        """What the attack in training climbs."""
        return self.training.attack.loss or ("cross-entropy" if self.method.loss == "at" else "kl")

    @property
    def audit_spec(self) -> AuditSpec:
        """The audit that is made before and after."""
        return AuditSpec(threat=self.threat, **self.audit.model_dump())
