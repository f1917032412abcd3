"""The choice of a representation by the client's Accept and If-None-Match headers."""

import pytest
from starlette.requests import Request

from api.serving.negotiation import choose_media_type, is_unchanged

JSON, HTML = "application/json", "text/html"


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        ("*/*", JSON),
        ("", JSON),
        ("text/html", HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),  # browsers
        ("application/json, text/html;q=0.9", JSON),
        ("text/html;q=0.2, application/json;q=0.3", JSON),
        ("text/*, application/json;q=0.5", HTML),
        ("*/*;q=0.9, application/json;q=0.1", HTML),
        ("TEXT/HTML", HTML),
        ("image/png", JSON),
        ("text/html;q=x", JSON),
    ],
)
def test_the_highest_rated_type_is_answered(accept: str, answer: str) -> None:
    """The type with the highest quality wins, by the most specific range; without a preference the first one does."""
    assert choose_media_type(accept, [JSON, HTML]) == answer


@pytest.mark.parametrize(
    ("header", "same"),
    [
        ('W/"3"', True),
        ('"3"', True),
        ('"x", W/"3"', True),
        ('"a,b" ,"3"', True),
        ("*", True),
        ('W/"33"', False),
        ('"3,x"', False),
        ("3", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("etag", ['W/"3"', '"3"'])
def test_a_known_version_is_recognised(header: str, same: bool, etag: str) -> None:
    """A version is known if If-None-Match is a star or lists its tag, weak or strong; no other value matches."""
    request = Request({"type": "http", "headers": [(b"if-none-match", header.encode())]})
    assert is_unchanged(request, etag) is same


def test_tags_in_several_headers_are_one_list() -> None:
    """A version is known if any of the If-None-Match headers holds its tag."""
    request = Request({"type": "http", "headers": [(b"if-none-match", b'"2"'), (b"if-none-match", b'"3"')]})
    assert is_unchanged(request, 'W/"3"')
