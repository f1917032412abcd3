"""The spec of a stored model, where the worker's catalog may differ from the web service's."""

import pytest

from faal_core.errors import InvalidSpec
from worker.model_specs import read_spec

FIELDS = {"architecture": "small_resnet", "num_classes": 3, "arguments": {"width": 8}}


def test_a_spec_of_the_catalog_is_returned() -> None:
    """The fields of a network that the worker has are its spec."""
    assert read_spec(FIELDS).model_dump(exclude_defaults=True) == FIELDS


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architecture": "site/our_net"}, "There is no architecture named 'site/our_net'"),
        ({"arguments": {"depth": 8}}, "small_resnet takes no argument 'depth'"),
    ],
)
def test_another_catalog_is_named_as_the_cause(fields: dict[str, object], reason: str) -> None:
    """The error says what the worker lacks, and which settings must be equal."""
    with pytest.raises(InvalidSpec, match=rf"{reason}[^.]*\. Tell the administrator: .* the same `FAAL_NETWORKS`"):
        read_spec(FIELDS | fields)
