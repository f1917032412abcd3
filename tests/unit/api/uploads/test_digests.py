"""Digest fields are written and checked as RFC 9530 says."""

import pytest

from api.problems.errors import DigestMismatch
from api.uploads.digests import verify_digests
from faal_client.digests import format_digest

# RFC 9530, appendix B.1: the digest of {"hello": "world"} and a newline.
CONTENT = b'{"hello": "world"}\n'
FIELD = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_the_example_of_the_standard_passes() -> None:
    """Content with its digest passes unchanged, in pieces of any size and beside unknown algorithms."""
    for value in (FIELD, f"sha-512=:AAAA:, {FIELD}", f"md5=:AAAA:,{FIELD};a=1"):
        for field in ("content-digest", "repr-digest"):
            pieces = list(verify_digests(iter([CONTENT[:5], CONTENT[5:]]), {field: value}, "body"))
            assert b"".join(pieces) == CONTENT


def test_the_header_is_written_as_in_the_standard() -> None:
    """A digest in hexadecimal becomes the standard's byte sequence."""
    assert format_digest("44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38") == FIELD


@pytest.mark.parametrize("value", [FIELD.replace("RK", "RL"), "sha-256=:kurz:", "sha-256=??", "sha-256=:ä:", "sha-256"])
def test_wrong_and_unreadable_digests_are_refused(value: str) -> None:
    """A digest of other content, and a field that cannot be read, refuse the content."""
    with pytest.raises(DigestMismatch):
        list(verify_digests(iter([CONTENT]), {"repr-digest": value}, "file"))


def test_content_without_a_digest_passes() -> None:
    """Digests are optional, and those of other algorithms are ignored."""
    assert list(verify_digests(iter([CONTENT]), {"content-digest": "sha-512=:AAAA:"}, "body")) == [CONTENT]
