"""The host names and addresses of this service, which protect it until there are API keys.

Without keys, every client that reaches the service may do everything, and a browser on this machine reaches it. A page of another
site can point its own name at the service (DNS rebinding). The browser then treats its requests as same-origin, but their `Host`
is the name of the other site.
"""

import re
from ipaddress import ip_address

from jobs.settings import Settings

_HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::\d*)?")


def is_own_host(host: str, settings: Settings) -> bool:
    """Return whether a header `Host` names this service. The port is ignored.

    With FAAL_OPEN, any IP address counts as a name of the service: a page of another site cannot send an address as `Host`.
    """
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = (parts["address"] or parts["name"]).lower().removesuffix(".")
    return is_loopback(name) or name in settings.allowed_hosts or (settings.open and _is_address(name))


def is_loopback(host: str) -> bool:
    """Return whether the name or address is this machine's loopback."""
    return ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
