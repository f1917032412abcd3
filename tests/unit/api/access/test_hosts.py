"""The values of the header `Host` that name the service."""

import pytest

from api.access.hosts import is_own_host
from jobs.settings import Settings

LOCAL = ["localhost", "localhost:1", "LOCALHOST", "localhost.:80", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:8000"]
LISTED = ["faal.example", "FAAL.example:443", "faal.example.", "10.0.0.5", "[fd00::5]:80"]
ADDRESSES = ["192.168.1.7:8000", "0.0.0.0", "[fe80::1]", "[2001:DB8::1]:80"]
FOREIGN = ["elsewhere.example", "elsewhere.example:8000", "127.0.0.1.example", "x.faal.example", "localhost.example"]
NONSENSE = [
    "",
    "[",
    "[::1",
    "::",
    "::1",
    ":80",
    "localhost:x",
    "localhost..",
    "faal.example,localhost",
    "127.1",
    "a@localhost",
]


@pytest.mark.parametrize("is_open", [False, True])
def test_hosts_are_told_apart(is_open: bool) -> None:
    """Names of this machine and listed names are the service's in any spelling, addresses where it is open, others never."""
    settings = Settings(open=is_open, hosts="faal.example., 10.0.0.5,fd00::5")
    assert [host for host in LOCAL + LISTED if not is_own_host(host, settings)] == []
    assert [host for host in ADDRESSES if is_own_host(host, settings) != is_open] == []
    assert [host for host in FOREIGN + NONSENSE if is_own_host(host, settings)] == []
    assert not any(is_own_host(host, Settings()) for host in LISTED)
