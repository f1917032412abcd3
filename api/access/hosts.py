"""The names and addresses of this service, by which it is protected while there are no API keys.

Whoever reaches the service may then do everything, and a browser on this machine does. A page of another site can point its
own name at the service (DNS rebinding), and the browser takes its requests for those of our pages; but their `Host` is that name.
"""

import re
from ipaddress import ip_address

from jobs.settings import Settings

_HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::\d*)?")


def is_own_host(host: str, settings: Settings) -> bool:
    """Return whether a header `Host` names this service, whatever the port.

    An address names the service where it may listen on all of them: a page of another site cannot have that address in `Host`.
    """
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = (parts["address"] or parts["name"]).lower().removesuffix(".")
    return is_loopback(name) or name in settings.allowed_hosts or (settings.open and _is_address(name))


def is_loopback(host: str) -> bool:
    """Return whether that name or address means this machine and no other."""
    return ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
