"""The spec of a stored model, whose architecture this worker may lack."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from faal_core.errors import InvalidSpec
from faal_core.specs import ClassifierSpec
from faal_core.specs.field_errors import explain, first_errors


def read_spec(fields: Mapping[str, Any]) -> ClassifierSpec:
    """Return the spec that the web service checked and stored.

    Raises: InvalidSpec where this worker's catalog differs from the web service's.
    """
    try:
        return ClassifierSpec.model_validate(fields)
    except ValidationError as error:
        (first, *_), _ = first_errors(error)
        raise InvalidSpec(
            f"This worker cannot use the model's network: {explain(first).removesuffix('.')}. "
            "Tell the administrator: the web service and all workers need "
            "the same version, the same packages and the same `FAAL_NETWORKS`."
        ) from None
