"""Define what the attacker may do: a norm and a radius, for pixels in [0, 1]."""

import math
import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

_LONGEST = 60  # characters of a value: more are no norm's name, and an error repeats no more


class Norm(StrEnum):
    """Names the norm that measures a perturbation."""

    LINF = "linf"
    L2 = "l2"


_SPELLINGS = {
    **dict.fromkeys(("linf", "linfty", "linfinity", "l∞", "inf", "infty", "infinity", "∞"), Norm.LINF),
    **dict.fromkeys(("l2", "2", "euclidean"), Norm.L2),
}


def parse_norm(value: Any) -> Any:  # noqa: ANN401 - whatever JSON or a command line carries
    """Return the norm that a text names, as people write it: "linf", "Linf", "L∞", "ℓ_inf" or "L2".

    A value that is not a text is returned unchanged, and pydantic checks it.

    Raises: ValueError for another text (pydantic turns it into a field error).
    """
    if not isinstance(value, str):
        return value
    letters = re.sub(r"[\s_-]|norm$", "", unicodedata.normalize("NFKC", value[:_LONGEST]).casefold())
    if letters not in _SPELLINGS or len(value) > _LONGEST:
        raise ValueError(f"{value[:_LONGEST]!r} is not a supported norm: write linf or l2")
    return _SPELLINGS[letters]


def parse_radius(value: Any) -> float:  # noqa: ANN401 - whatever JSON or a command line carries
    """Return the radius that a number, a decimal string or a fraction such as "8/255" states.

    Does not use `Fraction`, which would let ZeroDivisionError through and compute for minutes on "1e9999999".

    Raises: ValueError when the value is no number, not finite or not positive (pydantic turns it into a field error).
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('a radius is a number or a fraction such as "8/255"')  # noqa: TRY004 - for pydantic
    written = repr(value)[:_LONGEST]
    try:
        numerator, slash, denominator = value.partition("/") if isinstance(value, str) else (value, "", "")
        radius = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(
            f'{written} is not a radius: write a number such as 0.1 or a fraction such as "8/255"'
        ) from None
    if not math.isfinite(radius) or radius <= 0:
        raise ValueError(f"a radius is positive and finite, not {written}")
    return radius


def format_radius(radius: float) -> str:
    """Return the radius as people write it: "8/255" where it is a whole number of 255ths below 1, a decimal otherwise."""
    levels = radius * 255
    if radius < 1 and round(levels) >= 1 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{radius:.6g}"


Radius = Annotated[float, BeforeValidator(parse_radius), Field(examples=["8/255", 0.1])]


class ThreatModel(BaseModel):
    """Allows all perturbations of norm at most `epsilon` that keep pixels in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Annotated[Norm, BeforeValidator(parse_norm, json_schema_input_type=Norm)] = Norm.LINF
    epsilon: Radius

    @field_validator("epsilon")
    @classmethod
    def _fits_pixels(cls, epsilon: float, info: ValidationInfo) -> float:
        if info.data.get("norm") is Norm.LINF and epsilon > 1:
            hint = f"; for levels of 0 to 255 write {epsilon:g}/255" if epsilon <= 255 else ""
            raise ValueError(f"an L∞ radius of {epsilon:g} exceeds the pixel range [0, 1]{hint}")
        return epsilon

    def diameter(self, shape: Sequence[int]) -> float:
        """Return the largest distance between two images of that shape with pixels in [0, 1], in this norm."""
        return 1.0 if self.norm is Norm.LINF else math.sqrt(math.prod(shape))

    def __str__(self) -> str:
        return f"{'L∞' if self.norm is Norm.LINF else 'L2'} ε = {format_radius(self.epsilon)}"
