"""Define the base class of all JSON documents of results, and the types of their counts and rates."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Images = Annotated[int, Field(ge=1, lt=2**53)]  # float64 represents such numbers exactly
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Status = Literal["pass", "fail", "undecided"]
"""Whether a limit is met, at the confidence of the intervals."""


class Document(BaseModel):
    """Is a part of a report: complete, and immutable once written."""

    model_config = ConfigDict(frozen=True, extra="forbid")
