"""Define the specs of attacks."""

from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from faal_core.specs.class_names import MAX_NAME_LENGTH, is_name
from faal_core.specs.spec import MAX_CLASSES, Spec

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


def _require_name(name: str) -> str:
    """Return a valid name of a network, by the rule for class names. Raises: ValueError."""
    if not is_name(name):
        raise ValueError(f"a name has 1 to {MAX_NAME_LENGTH} characters, and none that controls a terminal")
    return name


class SourceNetwork(Spec):
    """Names another network whose gradients an attack follows."""

    name: Annotated[str, AfterValidator(_require_name)] = Field(description="Name of the network in reports.")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the network's weights, as in `classifier` of its own report."
    )

    @classmethod
    def from_weights(cls, name: str, sha256: str) -> Self:
        """Return the description of a network of any name: characters that a name cannot have become U+FFFD."""
        clean = "".join(sign if is_name(sign) else "\ufffd" for sign in name[:MAX_NAME_LENGTH])
        return cls(name=clean or "unnamed", sha256=sha256)

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same weights, under whatever names."""
        return isinstance(other, SourceNetwork) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:8]})"


class TransferSpec(AnyAttackSpec):
    """Configures Auto-PGD on another network, the source: the audited network judges each of its steps.

    In a request to the service, `source` has the `sha256` of one of your models.
    """

    type: Literal["transfer"] = "transfer"
    source: SourceNetwork = Field(
        description="Network whose gradients the attack follows. It has the same classes in the same order."
    )
    targets: int = Field(
        0,
        ge=0,
        lt=MAX_CLASSES,
        description="Number of target classes, those with the source's largest logits first, one run each by the targeted DLR "
        "loss. 0 moves away from the label by the margin.",
    )
    iterations: int = Field(100, ge=1, le=10_000)
    restarts: int = Field(1, ge=1, le=100, description="Number of restarts of each run.")

    def passes(self, num_classes: int) -> int:
        """Return the most passes per image in all runs, of both networks; one pass judges each run."""
        targets = min(self.targets, num_classes - 1)
        return max(targets, 1) * self.restarts * (3 * self.iterations + (4 if targets else 3))

    def __str__(self) -> str:
        aim = f"{self.targets} targets" if self.targets else "margin"
        return f"Transfer-{self.iterations}{_times(self.restarts)} ({aim}, from {self.source}){self._condition_text}"


def _times(restarts: int) -> str:
    return f"×{restarts}" if restarts > 1 else ""


# The preset `fast` attacks every image that is still robust in this way. Untargeted attacks leave images that it breaks.
_THOROUGH_TARGETS, _THOROUGH_ITERATIONS = 3, 30


def is_thorough(attack: AnyAttackSpec, num_classes: int) -> bool:
    """Return whether this is a targeted attack on every robust image, with at least as many targets and steps as `fast` has."""
    if not isinstance(attack, ApgdSpec | FabSpec) or attack.margin_left is not None:
        return False
    return attack.targets >= min(_THOROUGH_TARGETS, num_classes - 1) and attack.iterations >= _THOROUGH_ITERATIONS


AttackSpec = Annotated[PgdSpec | ApgdSpec | FabSpec | SquareSpec | TransferSpec, Field(discriminator="type")]


def list_sources(attacks: Collection[AttackSpec]) -> dict[str, SourceNetwork]:
    """Return the networks whose gradients the attacks follow, by the digest of their weights."""
    return {attack.source.sha256: attack.source for attack in attacks if isinstance(attack, TransferSpec)}
