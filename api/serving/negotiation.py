"""Content negotiation: choose the media type of an answer, and detect that the client has it already."""

import re
from collections.abc import Sequence

from fastapi import Request

_OPAQUE_TAG = re.compile(r'"[^"]*"')  # an entity tag without `W/`; it may contain commas


def choose_media_type(accept: str, offered: Sequence[str]) -> str:
    """Return the media type of `offered` that an Accept header rates highest; the first one among equals, or if none matches.

    Source: RFC 9110, section 12.5.1: the most specific range that matches a type gives its quality.
    """
    ranges = [_range(item) for item in accept.split(",") if item.strip()]

    def quality(media_type: str) -> float:
        matches = [
            (_specificity(name), q)
            for name, q in ranges
            if name in (media_type, media_type.split("/", maxsplit=1)[0] + "/*", "*/*")
        ]
        return max(matches)[1] if matches else 0.0

    return max(offered, key=quality)


def _range(item: str) -> tuple[str, float]:
    """Return a media range and its quality."""
    name, *parameters = (part.strip().lower() for part in item.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0


def _specificity(name: str) -> int:
    return 0 if name == "*/*" else 1 if name.endswith("/*") else 2


def is_unchanged(request: Request, etag: str) -> bool:
    """Return whether the client already has the version of that ETag, weak or strong: `W/"x"` and `"x"` are the same version.

    Source: RFC 9110, section 13.1.2, with the weak comparison of section 8.8.3.2.
    """
    sent = ", ".join(request.headers.getlist("If-None-Match"))
    return sent.strip() == "*" or etag.removeprefix("W/") in _OPAQUE_TAG.findall(sent)
