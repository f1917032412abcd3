"""Read the text of a policy that a request or a form has."""

from typing import Any

from api.problems.errors import InvalidRequest
from faal_core.errors import InvalidSpec
from faal_core.specs.policy_file import is_json, parse_policy_document


def parse_policy_text(text: str) -> dict[str, Any]:
    """Return the fields of a policy in JSON or YAML, before they are validated. Raises: InvalidRequest at the field `policy`."""
    try:
        return parse_policy_document(text.encode(), "policy.json" if is_json(text) else "policy.yaml")
    except InvalidSpec as error:
        raise InvalidRequest.for_field("/policy", error.message.rstrip(".")) from None
