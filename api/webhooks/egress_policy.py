"""Restrict the targets of webhooks to public addresses over TLS, and to the networks that the site allows.

The connection goes to the address that was checked. A second lookup of the name could return another address.
"""

import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import anyio
import httpcore
from pydantic import HttpUrl

from jobs.settings import Network

Address = IPv4Address | IPv6Address
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

_UNICAST = ip_network("2000::/3")  # all IPv6 addresses that are assigned
_SPECIAL: Sequence[Network] = [
    ip_network("192.0.0.0/24"),  # protocol assignments; some clouds serve their metadata here
    ip_network("192.88.99.0/24"),  # 6to4 relays
    ip_network("168.63.129.16/32"),  # Azure's services for virtual machines
    ip_network("2001::/23"),  # protocol assignments, including Teredo
    ip_network("2002::/16"),  # 6to4: contains an IPv4 address
]


class NotAllowed(Exception):
    """A host has no allowed address. The message omits its addresses, which could reveal an internal network."""


class EgressPolicy:
    """The addresses that webhooks may be sent to.

    Args:
        networks: networks that the site allows, also without TLS.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def allow(self, address: Address, *, encrypted: bool) -> bool:
        """Return whether a webhook may be sent to the address."""
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks) or (encrypted and _is_public(address))

    def objection(self, url: HttpUrl) -> str | None:
        """Return the reason to refuse a URL, or None. Names are not looked up yet."""
        if url.username is not None or url.password is not None or url.fragment is not None:
            return "the URL has a user, a password or a fragment; leave them out"
        encrypted = url.scheme == "https"
        if not encrypted and not self._networks:
            return "webhooks are sent over TLS only; give a URL that begins with https://"
        try:
            address = ip_address((url.host or "").strip("[]"))
        except ValueError:  # the host is a name
            return None
        return (
            None
            if self.allow(address, encrypted=encrypted)
            else "webhooks are not sent to this address; give a public one, or ask the operator to allow its network"
        )


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """A network backend that connects to allowed addresses only.

    Args:
        encrypted: whether the connection will use TLS.
    """

    def __init__(self, policy: EgressPolicy, *, encrypted: bool) -> None:
        self._policy, self._encrypted = policy, encrypted
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first allowed address of the host that answers.

        Raises: NotAllowed, OSError, httpcore's errors.
        """
        failure: Exception = NotAllowed(f"{host} has no address that webhooks are sent to")
        for *_, (address, *_) in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if self._policy.allow(ip_address(address), encrypted=self._encrypted):
                try:
                    return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
                except httpcore.ConnectError as error:
                    failure = error
        raise failure


def _is_public(address: Address) -> bool:
    """Return whether the address is a public unicast address.

    Source: IANA's special-purpose address registries, as far as `ipaddress` follows them, and `_SPECIAL`.
    """
    if not address.is_global or address.is_multicast or any(address in network for network in _SPECIAL):
        return False
    return address.version == 4 or address in _UNICAST
