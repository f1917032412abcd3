"""What can be asked for: classifiers, attacks, audits and fine-tuning, as JSON with bounds and defaults.

Every number a result depends on stands here and is kept with the report. Source of the defaults: docs/method.md.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.threat_model import ThreatModel

MAX_CLASSES = 10_000


class Spec(BaseModel):
    """A request: unknown fields are errors and nothing changes after it was checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassifierSpec(Spec):
    """What must be known beside the weights to rebuild a classifier."""

    architecture: str = Field(max_length=100, examples=["preact_resnet18"], description="a name from the catalog")
    num_classes: int = Field(ge=2, le=MAX_CLASSES, examples=[10])
    mean: tuple[float, ...] = Field((0.0,), min_length=1, max_length=4, description="per channel, pixels in [0, 1]")
    std: tuple[float, ...] = Field((1.0,), min_length=1, max_length=4, description="per channel, positive")
    arguments: dict[str, int] = Field(default_factory=dict, description="the architecture's own; bounds in the catalog")
    class_names: tuple[str, ...] | None = Field(None, description="one per class, in label order")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std has {len(self.std)}")
        if any(not math.isfinite(s) or s <= 0 for s in self.std):
            raise ValueError("every std is positive")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.num_classes} classes")
        if self.class_names is not None and len(set(self.class_names)) < len(self.class_names):
            raise ValueError("two classes have the same name")
        return self

    @model_validator(mode="after")
    def _offered(self) -> Self:
        try:
            entry = catalog.architecture(self.architecture)
        except UnknownName as error:
            raise ValueError(error.message) from None
        for name, value in self.arguments.items():
            if name not in entry.arguments:
                raise ValueError(f"{self.architecture} takes no argument {name!r}; it takes {sorted(entry.arguments)}")
            bounds = entry.arguments[name]
            if not bounds.low <= value <= bounds.high:
                raise ValueError(
                    f"{name} of {self.architecture} lies between {bounds.low} and {bounds.high}, not {value}"
                )
        return self

    @property
    def channels(self) -> int:
        """Input channels: one mean per channel."""
        return len(self.mean)


class AnyAttackSpec(Spec):
    """What every attack can be told."""

    max_margin: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="tried only on images where the label's probability came within this of another class's under the attacks "
        "before; on all that are still robust when absent",
    )

    @property
    def _condition(self) -> str:
        return "" if self.max_margin is None else f" at margin ≤ {self.max_margin:g}"


class PgdSpec(AnyAttackSpec):
    """Projected gradient descent (Madry et al. 2018)."""

    type: Literal["pgd"] = "pgd"
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"
    steps: int = Field(20, ge=1, le=10_000)
    relative_step: float = Field(0.25, gt=0, le=2, description="step size as a share of ε: 0.25 is 2/255 at 8/255")
    restarts: int = Field(1, ge=1, le=100)
    random_start: bool = Field(True, description="start from a uniform point of the ball instead of the image")

    def __str__(self) -> str:
        return f"PGD-{self.steps}{_times(self.restarts)} ({self.loss}){self._condition}"


class ApgdSpec(AnyAttackSpec):
    """Auto-PGD (Croce and Hein 2020, AutoAttack)."""

    type: Literal["apgd"] = "apgd"
    loss: Literal["cross-entropy", "margin", "probability-margin", "dlr"] = "cross-entropy"
    targets: int = Field(
        0, ge=0, lt=MAX_CLASSES, description="classes aimed at, nearest first, one run each; 0 aims away from the label"
    )
    iterations: int = Field(100, ge=1, le=10_000)
    restarts: int = Field(1, ge=1, le=100, description="of each run")

    @model_validator(mode="after")
    def _targeted_by_dlr(self) -> Self:
        if self.targets and self.loss != "dlr":
            raise ValueError(f"targets go with the loss dlr, not {self.loss}")
        return self

    def __str__(self) -> str:
        targets = f", {self.targets} targets" if self.targets else ""
        return f"APGD-{self.iterations}{_times(self.restarts)} ({self.loss}{targets}){self._condition}"


class FabSpec(AnyAttackSpec):
    """Fast adaptive boundary attack, targeted (Croce and Hein 2020)."""

    type: Literal["fab"] = "fab"
    targets: int = Field(9, ge=1, lt=MAX_CLASSES, description="classes aimed at, nearest first, one run each")
    iterations: int = Field(100, ge=1, le=10_000)
    restarts: int = Field(1, ge=1, le=100, description="of each run; the first starts at the image itself")

    def __str__(self) -> str:
        return f"FAB-{self.iterations}{_times(self.restarts)} ({self.targets} targets){self._condition}"


class SquareSpec(AnyAttackSpec):
    """Square attack: random search without gradients (Andriushchenko et al. 2020)."""

    type: Literal["square"] = "square"
    queries: int = Field(5000, ge=1, le=1_000_000)
    initial_share: float = Field(0.8, gt=0, le=1, description="of the pixels, changed by the first queries")
    restarts: int = Field(1, ge=1, le=100)

    def __str__(self) -> str:
        return f"Square-{self.queries}{_times(self.restarts)}{self._condition}"


def _times(restarts: int) -> str:
    return f"×{restarts}" if restarts > 1 else ""


AttackSpec = Annotated[PgdSpec | ApgdSpec | FabSpec | SquareSpec, Field(discriminator="type")]


def _expand_preset(value: object) -> object:
    """The attacks of a preset where its name was given."""
    if not isinstance(value, str):
        return value
    try:
        return catalog.preset(value).attacks
    except UnknownName as error:
        raise ValueError(error.message) from None


Attacks = Annotated[
    tuple[AttackSpec, ...],
    BeforeValidator(_expand_preset, json_schema_input_type=tuple[AttackSpec, ...] | str),
    Field(
        min_length=1,
        max_length=20,
        description="a preset's name or attacks in order, each run only on images still robust; the result is the worst case",
    ),
]


class AuditSettings(Spec):
    """How hard a classifier is tried, and how sure the answer must be."""

    attacks: Attacks = (PgdSpec(), PgdSpec(loss="margin"))
    images: int | None = Field(
        None, ge=1, description="test images, drawn from each class in proportion; all when absent"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of all intervals of a kind together")
    batch_size: int = Field(250, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=2**31)


class AuditSpec(AuditSettings):
    """How a classifier is judged."""

    threat: ThreatModel


class FaalMethod(Spec):
    """Fairness-Aware Adversarial Learning (Zhang et al., CVPR 2024); `kl_radius: 0` is plain adversarial training."""

    type: Literal["faal"] = "faal"
    loss: Literal["at"] = Field("at", description="what is weighed: cross-entropy on adversarial images")
    kl_radius: float = Field(0.5, ge=0, le=50, description="KL(u‖p) ≤ this, in nats; 0 keeps uniform weights")
    objective: Literal["class-risk", "batch-count"] = Field(
        "class-risk", description="coefficients of the inner problem: mean margin per class, or its sum over the batch"
    )


class TrainingSpec(Spec):
    """How weights are fitted: SGD over adversarial batches."""

    learning_rates: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.01, 0.001), min_length=1, max_length=1000, description="one per epoch"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, le=1)
    batch_size: int = Field(128, ge=2, le=100_000)
    attack: PgdSpec = PgdSpec(steps=10)
    augment: Literal["none", "crop-flip"] = Field(
        "crop-flip", description="random crop after padding by 1/8, and mirror"
    )
    clean_forward: bool = Field(
        True, description="forward the clean batch in train mode too, for batch-norm's statistics"
    )
    held_out_share: float = Field(0.1, ge=0, lt=1, description="of the training images, kept for choosing the epoch")
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _attack_of_training(self) -> Self:
        if self.attack.restarts > 1:
            raise ValueError("the attack in training has one start: restarts are for audits")
        if self.attack.max_margin is not None:
            raise ValueError("the attack in training is made on every image: max_margin is for audits")
        return self

    @property
    def epochs(self) -> int:
        """One per learning rate."""
        return len(self.learning_rates)


class FinetuneSpec(Spec):
    """How a classifier is repaired: audited, trained, audited again on the same test images."""

    threat: ThreatModel
    method: FaalMethod = FaalMethod()
    training: TrainingSpec = TrainingSpec()
    audit: AuditSettings = AuditSettings()

    @property
    def audit_spec(self) -> AuditSpec:
        """The audit that is made before and after."""
        return AuditSpec(threat=self.threat, **self.audit.model_dump())
