"""Addresses in logs and problems show no token of a link and no API key."""

import pytest

from api.problems.hidden_secrets import hide_secrets
from jobs.tables import new_id

SECRET = "v0-Zq_" + "x" * 37


@pytest.mark.parametrize(
    ("address", "result"),
    [
        (f"/shared/{SECRET}", "/shared/…"),
        (f"/shared/{SECRET}/?format=html", "/shared/…?format=html"),
        (f"/SHARED//faal_link_{SECRET}", "/SHARED/…"),
        (f"/share/faal_link_{SECRET}", "/share/…"),
        (f"/login?back=%2Fshared%2Ffaal_link_{SECRET}", "/login?back=%2Fshared%2F…"),
        (f"/jobs?key=faal_{SECRET}&limit=3", "/jobs?key=…&limit=3"),
    ],
)
def test_secrets_are_hidden(address: str, result: str) -> None:
    """A token or key is hidden in the path and in the query, in mistyped addresses too; the rest of the address is shown."""
    assert hide_secrets(address) == result


def test_other_addresses_are_shown() -> None:
    """Ids, names and an empty token are shown as they are."""
    for address in (
        f"/jobs/{new_id('job')}/links/{new_id('link')}",
        "/shared/",
        "/datasets?after=faal_x",
        "/sharedx/y",
    ):
        assert hide_secrets(address) == address
