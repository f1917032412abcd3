"""The formats of a stored report: JSON as the worker wrote it, and an HTML page."""

from collections.abc import Mapping
from functools import lru_cache

from fastapi import Response

from faal_core.reports import html
from faal_core.results.reading import read_any_report

MEDIA_TYPES = {"json": "application/json", "html": "text/html"}

# The page contains its style sheet. It may not run scripts or fetch anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"


def answer_with_report(document: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the response with a report in one of `MEDIA_TYPES`."""
    if media_type == MEDIA_TYPES["html"]:
        return answer_with_page(_render_page(document), headers)
    return Response(document, media_type=media_type, headers=dict(headers))


def answer_with_page(page: str, headers: Mapping[str, str]) -> Response:
    """Return the response with the page of a report, which may not run scripts or fetch anything."""
    return Response(page, media_type=MEDIA_TYPES["html"], headers={**headers, "Content-Security-Policy": _POLICY})


@lru_cache(maxsize=16)
def _render_page(document: str) -> str:
    """Return a report in JSON as an HTML page. Rendering takes about a second, so the last pages are cached."""
    return html.render(read_any_report(document))
