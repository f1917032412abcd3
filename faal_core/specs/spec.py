"""Define the base class of all specs."""

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_CLASSES = 10_000  # bounds the size of reports and the time to compute them
_MAX_VALUES = MAX_CLASSES + 2_000
"""Items and fields in one spec, nested ones included: a name for each class, or 1,000 learning rates, and every other field."""


class Spec(BaseModel):
    """Is a request: unknown fields are errors, and nothing changes after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _limit_values(cls, document: object) -> object:
        """Refuse a document with too many values before they are validated: each could be an error of its own."""
        waiting, count = [document], 0
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict | list | tuple):
                count += len(value)
                if count > _MAX_VALUES:
                    raise PydanticCustomError(
                        "too_many_values", "has more than {most} fields and items", {"most": f"{_MAX_VALUES:,}"}
                    )
                waiting += value.values() if isinstance(value, dict) else value
        return document
