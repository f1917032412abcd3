"""Define the reason for which a pack is refused."""


class PackRefused(Exception):
    """The pack breaks a rule; the message says which one, and where."""
