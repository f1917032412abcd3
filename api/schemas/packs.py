"""The body of a request for an evidence pack."""

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from faal_core.specs import Spec

MOST_POLICY_TEXT = 32_768  # characters of a policy, which is read within half a second

_EXAMPLE: JsonDict = {"policy": "min_worst: 0.25\nmin_clean: 0.8\n"}


class PackRequest(Spec):
    """The files that an evidence pack gets beside the report and the outcomes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    policy: str | None = Field(
        None,
        max_length=MOST_POLICY_TEXT,
        description="text of a policy's file, YAML or JSON, exactly as written; the pack gets the file and the policy's result",
    )
    policy_signature: str | None = Field(
        None,
        max_length=MOST_POLICY_TEXT,
        description="text of the file that `faal sign` wrote for the policy, exactly as written",
    )
