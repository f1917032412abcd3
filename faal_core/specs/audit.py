"""Define the specs of audits."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.specs.attacks import AttackSpec, PgdSpec, is_thorough, list_sources
from faal_core.specs.class_names import MAX_NAME_LENGTH, is_name
from faal_core.specs.field_errors import shorten
from faal_core.specs.policy import Limit
from faal_core.specs.spec import MAX_CLASSES, Spec
from faal_core.threat_model import ThreatModel

# Networks that transfer attacks may follow: each costs about an eighth of the passes of the preset standard, and takes memory.
_MOST_SOURCES = 3


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

    @field_validator("attacks")
    @classmethod
    def _limit_sources(cls, attacks: tuple[AttackSpec, ...]) -> tuple[AttackSpec, ...]:
        if (count := len(list_sources(attacks))) > _MOST_SOURCES:
            raise ValueError(f"they follow the gradients of {count} networks; name at most {_MOST_SOURCES}")
        return attacks

    @property
    def preset(self) -> str | None:
        """Return the name of the preset that has these attacks, or None."""
        presets = {name: type(self).model_validate({**dict(self), "attacks": name}).attacks for name in catalog.PRESETS}
        return next((name for name, attacks in presets.items() if attacks == self.attacks), None)

    def is_first_look(self, num_classes: int) -> bool:
        """Return whether no attack is as thorough as the targeted attacks of the preset `fast`.

        Robust accuracy is an upper bound under any attack. After a first look it may be several points too high.
        """
        return not any(is_thorough(attack, num_classes) for attack in self.attacks)


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
