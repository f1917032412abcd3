"""The permitted destinations of webhooks, by addresses that are special for different reasons."""

from ipaddress import ip_address, ip_network

import anyio
import httpcore
import pytest
from pydantic import HttpUrl

from api.webhooks.egress_policy import EgressPolicy, GuardedBackend, NotAllowed

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8"]
OTHERS = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
DISGUISED = ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1."]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_over_tls(address):
    """A public address on the Internet may be reached with TLS, and not without."""
    assert EgressPolicy().allow(ip_address(address), encrypted=True)
    assert not EgressPolicy([ip_network("10.0.0.0/8")]).allow(ip_address(address), encrypted=False)


@pytest.mark.parametrize("address", OTHERS)
def test_special_addresses_are_not(address):
    """No address of a private network, of this machine, of a cloud's internal services or of a multicast group is permitted."""
    assert not EgressPolicy().allow(ip_address(address), encrypted=True)


def test_networks_of_the_site_are():
    """Networks that the site names are permitted, with TLS or without, and no others."""
    policy = EgressPolicy([ip_network("10.1.0.0/16"), ip_network("fd12::/32")])
    for address, is_allowed in [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fd12::1", True), ("10.2.0.1", False)]:
        for with_tls in (True, False):
            assert policy.allow(ip_address(address), encrypted=with_tls) is is_allowed


@pytest.mark.parametrize("host", DISGUISED)
def test_disguised_addresses_are_known(host):
    """An address of this machine is refused in any spelling, at once or when it is looked up."""
    is_refused = EgressPolicy().objection(HttpUrl(f"https://{host}/")) is not None
    assert is_refused or _not_allowed(HttpUrl(f"https://{host}/").host)


@pytest.mark.parametrize(
    ("url", "objection"),
    [
        ("http://example.com/", "TLS"),
        ("https://ann:secret@example.com/", "password"),
        ("https://example.com/#part", "fragment"),
        ("https://[::1]/", "address"),
        ("https://example.com/hook?a=b", None),
        ("https://bücher.example/", None),
    ],
)
def test_objections(url, objection):
    """An objection to a URL is raised before any message is sent."""
    reason = EgressPolicy().objection(HttpUrl(url))
    assert reason is None if objection is None else objection in reason


def test_names_are_judged_by_what_they_stand_for():
    """A harmless name with an address of this machine is not connected to, and the refusal does not contain the address."""
    assert _not_allowed("localhost")


def _not_allowed(host: str) -> bool:
    backend = GuardedBackend(EgressPolicy(), encrypted=True)
    with pytest.raises(NotAllowed) as refused:
        anyio.run(backend.connect_tcp, host, 443)
    return "127" not in str(refused.value).replace(host, "") and "::1" not in str(refused.value)


def test_allowed_names_are_connected_to():
    """A name with an address in a network of the site is connected to there, at the very address that was checked."""
    backend = GuardedBackend(EgressPolicy([ip_network("127.0.0.0/8")]), encrypted=False)

    async def peer() -> tuple[str, int]:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            stream = await backend.connect_tcp("localhost", port)
            peer_address = stream.get_extra_info("server_addr")
            await stream.aclose()
            return peer_address == ("127.0.0.1", port)

    assert anyio.run(peer)


def test_the_first_address_that_answers(monkeypatch):
    """A name is looked up once; addresses that are not permitted, or where no server listens, are skipped."""
    looked_up = []

    async def addresses(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        looked_up.append(host)
        return [(2, 1, 6, "", (address, port)) for address in ("10.0.0.1", "127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(anyio, "getaddrinfo", addresses)
    backend = GuardedBackend(EgressPolicy([ip_network("127.0.0.0/8")]), encrypted=False)

    async def reach_first() -> str:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            stream = await backend.connect_tcp("two.example", listener.extra(anyio.abc.SocketAttribute.local_port))
            address, _ = stream.get_extra_info("server_addr")
            await stream.aclose()
            return address

    assert (anyio.run(reach_first), looked_up) == ("127.0.0.1", ["two.example"])


def test_nobody_listens():
    """A permitted address where no server listens is an error of the network, not of the address."""
    backend = GuardedBackend(EgressPolicy([ip_network("127.0.0.0/8")]), encrypted=False)
    with pytest.raises(httpcore.ConnectError):
        anyio.run(backend.connect_tcp, "127.0.0.1", 1)
