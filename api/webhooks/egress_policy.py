"""Where webhooks may go: to public addresses over TLS, and into networks that the site names; nobody reaches others by them.

The address that was judged is the one that is connected to: a name that is looked up twice could answer twice.
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

_UNICAST = ip_network("2000::/3")  # all that is handed out of IPv6
_NOT_FOR_US: Sequence[Network] = [
    ip_network("192.0.0.0/24"),  # protocols' own; some clouds have their metadata here
    ip_network("192.88.99.0/24"),  # relays into 6to4
    ip_network("168.63.129.16/32"),  # Azure's own services, as a virtual machine sees them
    ip_network("2001::/23"),  # protocols' own, Teredo among them
    ip_network("2002::/16"),  # 6to4: an IPv4 address inside
]


class NotAllowed(Exception):
    """A name has no address that may be connected to. Which it has stays unsaid: it may tell of the inside."""


class Destinations:
    """What webhooks may reach.

    Args:
        networks: of the site's choice, without TLS too.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def allow(self, address: Address, *, encrypted: bool) -> bool:
        """Whether a webhook may be sent to that address."""
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks) or (encrypted and _is_public(address))

    def objection(self, url: HttpUrl) -> str | None:
        """What is to be said against that URL before any name is looked up."""
        if url.username is not None or url.password is not None or url.fragment is not None:
            return "a user, a password and a fragment have no place here"
        encrypted = url.scheme == "https"
        if not encrypted and not self._networks:
            return "webhooks are sent over TLS alone: https://…"
        try:
            address = ip_address((url.host or "").strip("[]"))
        except ValueError:  # it is a name
            return None
        return None if self.allow(address, encrypted=encrypted) else "webhooks are not sent to this address"


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connections to allowed addresses alone.

    Args:
        encrypted: whether TLS will be spoken.
    """

    def __init__(self, destinations: Destinations, *, encrypted: bool) -> None:
        self._destinations, self._encrypted = destinations, encrypted
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to an allowed address that the host has, the first that answers.

        Raises: NotAllowed, OSError, httpcore's errors.
        """
        failure: Exception = NotAllowed(f"{host} has no address that webhooks are sent to")
        for *_, (address, *_) in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if self._destinations.allow(ip_address(address), encrypted=self._encrypted):
                try:
                    return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
                except httpcore.ConnectError as error:
                    failure = error
        raise failure


def _is_public(address: Address) -> bool:
    """Whether the address is on the Internet, for everybody, and is of a single machine.

    Source: IANA's special-purpose address registries, as far as `ipaddress` follows them, and `_NOT_FOR_US`.
    """
    if not address.is_global or address.is_multicast or any(address in network for network in _NOT_FOR_US):
        return False
    return address.version == 4 or address in _UNICAST
