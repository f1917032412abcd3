"""Define the policy of a gate: the rates that an audit must reach, and what it must have audited."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.specs.spec import MAX_CLASSES, Spec
from faal_core.threat_model import Norm, parse_norm, parse_radius

Preset = Literal["quick", "pgd-20", "pgd-100", "fast", "standard"]
STRENGTH: tuple[Preset, ...] = get_args(Preset)
"""The attack presets, weakest first."""

Limit = Annotated[float, Field(ge=0, le=1)]
_SHA256 = r"^[0-9a-f]{64}$"


def _parse_preset(value: Any) -> Any:  # noqa: ANN401 - whatever JSON or YAML carries
    """Return the preset's own name for a name as people write it. Raises: ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return catalog.preset(value).name
    except UnknownName as error:
        raise ValueError(error.message) from None


class Scope(Spec):
    """States what must have been audited; an audit of something else fails the gate."""

    norm: Annotated[Norm, BeforeValidator(parse_norm, json_schema_input_type=Norm)] | None = Field(
        None, description="Norm of the perturbations. Where only `epsilon` is set, it is linf."
    )
    epsilon: Annotated[float, BeforeValidator(parse_radius, json_schema_input_type=float | str)] | None = Field(
        None, examples=["8/255", 0.1], description="Smallest radius that must have been audited."
    )
    attacks: Annotated[Preset, BeforeValidator(_parse_preset, json_schema_input_type=Preset)] | None = Field(
        None,
        description="Weakest allowed attacks. The audit must have made all attacks of this preset or of a stronger one. "
        "From weak to strong: quick, pgd-20, pgd-100, fast, standard.",
    )
    dataset_sha256: str | None = Field(
        None,
        pattern=_SHA256,
        description="SHA-256 of the images and labels, as the report's "
        "`dataset.sha256`; of a sequential audit, its `sequential.available_sha256`.",
    )
    model_sha256: str | None = Field(
        None, pattern=_SHA256, description="SHA-256 of the weights, as the report's `classifier.sha256`."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_norm(cls, fields: Any) -> Any:  # noqa: ANN401 - whatever JSON or YAML carries
        if isinstance(fields, dict) and fields.get("epsilon") is not None and fields.get("norm") is None:
            return {**fields, "norm": Norm.LINF}
        return fields


class BaselineLimit(Spec):
    """Limits how much worse the audit may be than that of a baseline on the same images."""

    tolerance: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Largest allowed fall of a mean or class rate. The gate fails where a fall is significantly larger.",
    )


class Policy(Spec):
    """States the requirements of a gate. At least one is needed; the intervals decide whether a report meets them."""

    min_worst: Limit | None = Field(None, description="Smallest allowed robust accuracy of the worst class.")
    min_robust: Limit | None = Field(None, description="Smallest allowed robust accuracy over all images.")
    min_clean: Limit | None = Field(None, description="Smallest allowed clean accuracy over all images.")
    max_gap: Limit | None = Field(
        None, description="Largest allowed gap: the mean of the classes' robust rates minus the smallest of them."
    )
    min_class: dict[str, Limit] = Field(
        default_factory=dict,
        max_length=MAX_CLASSES,
        examples=[{"stop sign": 0.4}],
        description="Smallest allowed robust accuracy of single classes, by name.",
    )
    min_group: dict[str, Limit] = Field(
        default_factory=dict,
        max_length=MAX_CLASSES,
        examples=[{"camera": 0.3}],
        description="Smallest allowed robust accuracy of the worst group, by the name of the column of groups.",
    )
    baseline: BaselineLimit | None = Field(
        None, description="Comparison with an earlier audit of the same images; the gate then needs that audit."
    )
    scope: Scope = Field(
        default_factory=Scope, description="Norm, radius, attacks, images and weights that must have been audited."
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Confidence of all conclusions of the gate together, so the probability of any wrong one is at most "
        "1 − confidence.",
    )
    undecided: Literal["fail", "pass"] = Field(
        "fail", description="Whether the gate fails or passes where more images are needed to decide."
    )
    accept_warnings: tuple[str, ...] = Field(
        (),
        max_length=100,
        examples=[["square-beats-gradients"]],
        description="Codes of warnings that do not keep a requirement from passing. Without this, no robust rate passes "
        "after a warning that the rates may be far too high.",
    )

    @model_validator(mode="after")
    def _require_something(self) -> Self:
        limits = (self.min_worst, self.min_robust, self.min_clean, self.max_gap, self.baseline)
        if not (self.min_class or self.min_group) and all(limit is None for limit in limits):
            raise ValueError(
                "the policy has no requirement; set one of min_worst, min_robust, min_clean, max_gap, min_class, min_group "
                "and baseline"
            )
        return self
