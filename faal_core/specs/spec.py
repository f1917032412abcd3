"""What all specs have in common."""

from pydantic import BaseModel, ConfigDict

MAX_CLASSES = 10_000


class Spec(BaseModel):
    """A request: unknown fields are errors and nothing changes after it was checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
