"""Define the specs of attacks and audits."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.specs.class_names import MAX_NAME_LENGTH, is_name
from faal_core.specs.field_errors import shorten
from faal_core.specs.policy import Limit
from faal_core.specs.spec import MAX_CLASSES, Spec
from faal_core.threat_model import ThreatModel

MALT_CANDIDATES = 100
"""Most classes whose boundaries MALT's order of targets compares: those with the largest logits."""
_MALT_CLASSES = 10  # nine targets are all other classes of ten, and are tried in the order of their logits


class AnyAttackSpec(Spec):
    """Holds the fields that every attack has."""

    margin_left: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Try the attack only on images whose margin earlier attacks reduced to at most this fraction of "
        "the clean margin. The margin is the label's logit minus the largest other logit. When absent, the attack is "
        "tried on every image that is still robust.",
    )

    @property
    def _condition_text(self) -> str:
        return "" if self.margin_left is None else f" where ≤ {100 * self.margin_left:g} % of the margin is left"


class PgdSpec(AnyAttackSpec):
    """Configures projected gradient descent (Madry et al. 2018)."""

    type: Literal["pgd"] = "pgd"
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"
    steps: int = Field(20, ge=1, le=10_000)
    relative_step: float = Field(
        0.25, gt=0, le=2, description="Step size as a fraction of ε: 0.25 is 2/255 at ε = 8/255."
    )
    restarts: int = Field(1, ge=1, le=100)
    random_start: bool = Field(
        True, description="Whether to start from a uniform point of the ball instead of the image."
    )

    def passes(self, num_classes: int) -> int:
        """Return the most passes per image, forward and backward, in all runs; one pass judges each run."""
        return self.restarts * (2 * self.steps + 1)

    def __str__(self) -> str:
        return f"PGD-{self.steps}{_times(self.restarts)} ({self.loss}){self._condition_text}"


class ApgdSpec(AnyAttackSpec):
    """Configures Auto-PGD (Croce and Hein 2020, AutoAttack)."""

    type: Literal["apgd"] = "apgd"
    loss: Literal["cross-entropy", "margin", "probability-margin", "dlr"] = "cross-entropy"
    targets: int = Field(
        0,
        ge=0,
        lt=MAX_CLASSES,
        description="Number of target classes, nearest first, one run each; 0 moves away from the label.",
    )
    target_order: Literal["logits", "malt"] = Field(
        "logits",
        description="Order in which target classes are tried. logits: the largest logit first. malt: the nearest linearised "
        "decision boundary first, among the 100 classes with the largest logits (MALT). With 10 classes or fewer, malt is the "
        "same as logits.",
    )
    iterations: int = Field(100, ge=1, le=10_000)
    restarts: int = Field(1, ge=1, le=100, description="Number of restarts of each run.")
    gradient: Literal["exact", "surrogate"] = Field(
        "exact",
        description="exact: the network's own gradient. surrogate: thresholds, roundings and the choice of largest values get "
        "the gradient of a smooth function, and parts of the network that record no gradient are differentiated.",
    )

    @model_validator(mode="after")
    def _targeted_by_dlr(self) -> Self:
        if self.targets and self.loss != "dlr":
            raise ValueError(f"targets need the loss dlr, not {self.loss}")
        if self.target_order == "malt" and not self.targets:
            raise ValueError("target_order malt needs targets")
        return self

    def uses_malt(self, num_classes: int) -> bool:
        """Return whether the targets of a network of `num_classes` classes are chosen in MALT's order."""
        return self.targets > 0 and self.target_order == "malt" and num_classes > _MALT_CLASSES

    def passes(self, num_classes: int) -> int:
        """Return the most passes per image, forward and backward, in all runs; one pass judges each run."""
        targets = min(self.targets, num_classes - 1)
        runs = max(targets, 1) * self.restarts
        if self.uses_malt(num_classes):
            return runs * (2 * self.iterations + 2) + 1 + min(MALT_CANDIDATES, num_classes - 1)
        return runs * (2 * self.iterations + (3 if targets else 2))

    def __str__(self) -> str:
        order = " by MALT" if self.target_order == "malt" else ""
        targets = f", {self.targets} targets{order}" if self.targets else ""
        surrogate = ", surrogate gradient" if self.gradient == "surrogate" else ""
        return f"APGD-{self.iterations}{_times(self.restarts)} ({self.loss}{targets}{surrogate}){self._condition_text}"


class FabSpec(AnyAttackSpec):
    """Configures the targeted fast adaptive boundary attack (Croce and Hein 2020)."""

    type: Literal["fab"] = "fab"
    targets: int = Field(9, ge=1, lt=MAX_CLASSES, description="Number of target classes, nearest first, one run each.")
    iterations: int = Field(100, ge=1, le=10_000)
    restarts: int = Field(
        1, ge=1, le=100, description="Number of restarts of each run; the first starts at the image itself."
    )

    def passes(self, num_classes: int) -> int:
        """Return the most passes per image, forward and backward, in all runs; one pass judges each run."""
        return min(self.targets, num_classes - 1) * self.restarts * (3 * self.iterations + 2)

    def __str__(self) -> str:
        return f"FAB-{self.iterations}{_times(self.restarts)} ({self.targets} targets){self._condition_text}"


class SquareSpec(AnyAttackSpec):
    """Configures the Square attack, a random search without gradients (Andriushchenko et al. 2020)."""

    type: Literal["square"] = "square"
    queries: int = Field(5000, ge=1, le=1_000_000)
    initial_share: float = Field(0.8, gt=0, le=1, description="Fraction of the pixels that the first queries change.")
    restarts: int = Field(1, ge=1, le=100)

    def passes(self, num_classes: int) -> int:
        """Return the most passes per image, forward and backward, in all runs; one pass judges each run."""
        return self.restarts * (self.queries + 2)

    def __str__(self) -> str:
        return f"Square-{self.queries}{_times(self.restarts)}{self._condition_text}"


def _times(restarts: int) -> str:
    return f"×{restarts}" if restarts > 1 else ""


# The preset `fast` attacks every image that is still robust in this way. Untargeted attacks leave images that it breaks.
_THOROUGH_TARGETS, _THOROUGH_ITERATIONS = 3, 30


def _is_thorough(attack: AnyAttackSpec, num_classes: int) -> bool:
    """Return whether this is a targeted attack on every robust image, with at least as many targets and steps as `fast` has."""
    if not isinstance(attack, ApgdSpec | FabSpec) or attack.margin_left is not None:
        return False
    return attack.targets >= min(_THOROUGH_TARGETS, num_classes - 1) and attack.iterations >= _THOROUGH_ITERATIONS


AttackSpec = Annotated[PgdSpec | ApgdSpec | FabSpec | SquareSpec, Field(discriminator="type")]


def _expand_preset(value: object) -> object:
    """Return the attacks of the preset that the value names; another value unchanged."""
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
        description="Name of a preset, or attacks in order. Each attack runs only on images that are still robust; "
        "the result is the worst case.",
    ),
]


class AuditSettings(Spec):
    """Configures how strongly a classifier is attacked, and how certain the result must be."""

    attacks: Attacks = (PgdSpec(), PgdSpec(loss="margin"))
    images: int | None = Field(
        None, ge=1, description="Number of test images, drawn from each class in proportion; all when absent."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of all intervals of a kind together.")
    batch_size: int = Field(250, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=2**31)
    escalate: bool = Field(
        True,
        description="Whether further attacks follow, on the images that are still robust, after warnings that the gradients "
        "cannot be trusted. If the network's outputs are random, the mean logits of 128 draws predict every image. Sequential "
        "audits do not escalate.",
    )
    certify: bool = Field(
        True,
        description="Whether to prove, on a CPU, that no perturbation changes the class of an image. Proofs are tried only for "
        "networks whose operations are all known, and only where they cost fewer passes than they save. The images with a proof "
        "are not attacked, and the report counts them for each class. Sequential audits attack every image.",
    )

    @property
    def preset(self) -> str | None:
        """Return the name of the preset that has these attacks, or None."""
        presets = {name: type(self).model_validate({**dict(self), "attacks": name}).attacks for name in catalog.PRESETS}
        return next((name for name, attacks in presets.items() if attacks == self.attacks), None)

    def is_first_look(self, num_classes: int) -> bool:
        """Return whether no attack is as thorough as the targeted attacks of the preset `fast`.

        Robust accuracy is an upper bound under any attack. After a first look it may be several points too high.
        """
        return not any(_is_thorough(attack, num_classes) for attack in self.attacks)


class SequentialLimits(Spec):
    """States limits of robust accuracy, at least one. The audit ends as soon as its intervals decide about them."""

    min_worst: Limit | None = Field(
        None, description="Limit of the worst class, as in a policy: every class must reach it."
    )
    min_class: dict[str, Limit] = Field(
        default_factory=dict,
        max_length=MAX_CLASSES,
        examples=[{"stop sign": 0.4}],
        description="Limits of single classes, by name, as in a policy.",
    )

    @field_validator("min_class")
    @classmethod
    def _check_names(cls, limits: dict[str, float]) -> dict[str, float]:
        for name in limits:
            if not is_name(name):
                raise ValueError(f"no class is called {shorten(name, MAX_NAME_LENGTH)!r}")
        return limits

    @model_validator(mode="after")
    def _require_limit(self) -> Self:
        if self.min_worst is None and not self.min_class:
            raise ValueError("there is no limit; set min_worst, min_class or both")
        return self

    def limit(self, name: str) -> float:
        """Return the limit of the class of that name: the larger one of both; 0 where it has none."""
        return max(self.min_worst or 0.0, self.min_class.get(name, 0.0))


class AuditSpec(AuditSettings):
    """Configures an audit."""

    threat: ThreatModel
    sequential: SequentialLimits | None = Field(
        None,
        description="Limits that make the audit sequential: it audits blocks of images of each class, in random order. A "
        "class needs no more images when its interval is at or above its limit. The audit ends when every class has "
        "reached its limit, or when one class has missed it. The intervals hold at every number of images together. When "
        "absent, all images are audited.",
    )

    @property
    def escalates(self) -> bool:
        """Return whether attacks follow warnings about gradients. A sequential audit decides by the attacks of its spec."""
        return self.escalate and self.sequential is None
