"""The pull reader of multipart forms, against a form written by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems.errors import MalformedBody
from api.uploads.multipart import MultipartReader, read_boundary

CONTENT = b"\r\n--not the boundary\r\n" + bytes(range(256))
FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="name"\r\n\r\nroad \xc3\xa9\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a b.npz"\r\nContent-Digest: sha-256=:x:\r\n\r\n'
    + CONTENT
    + b'\r\n--xyz\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n--xyz--\r\n'
)


def read(pieces: list[bytes]) -> list[tuple[str, str | None, bytes]]:
    """Return names, file names and contents of all parts of a form that arrives in those pieces."""
    form, parts = MultipartReader(iter(pieces), b"xyz"), []
    while (part := form.next_part()) is not None:
        parts.append((part.name, part.filename, b"".join(form.pieces())))
    return parts


@given(st.sets(st.integers(1, len(FORM) - 1)))
def test_parts_are_the_same_however_the_body_is_cut(cuts: set[int]) -> None:
    """Names and contents are read whole at whatever byte the network cuts the body, also within a boundary."""
    pieces = [FORM[start:end] for start, end in pairwise([0, *sorted(cuts), len(FORM)])]
    assert read(pieces) == [("name", None, "road é".encode()), ("file", "a b.npz", CONTENT), ("empty", None, b"")]


def test_headers_of_a_part_are_known() -> None:
    """A part's own headers are read, by lower-case name."""
    form = MultipartReader(iter([FORM]), b"xyz")
    form.next_part()
    list(form.pieces())
    part = form.next_part()
    assert part is not None
    assert part.headers["content-digest"] == "sha-256=:x:"


@given(st.integers(0, len(FORM) - 3))
def test_a_form_that_ends_early_is_malformed(length: int) -> None:
    """A body that stops before its last boundary is never treated as complete."""
    with pytest.raises(MalformedBody):
        read([FORM[:length]] if length else [])


@pytest.mark.parametrize("body", [b"no form at all", b"--xyz\r\nContent-Type: text/plain\r\n\r\nx\r\n--xyz--\r\n"])
def test_other_bodies_are_malformed(body: bytes) -> None:
    """Content without parts, and parts without a name, are refused."""
    with pytest.raises(MalformedBody):
        read([body])


def test_headers_without_end_are_malformed() -> None:
    """A part whose headers never end is refused instead of collected."""
    with pytest.raises(MalformedBody):
        read([b"--xyz\r\n", *[b"X-Long: " + b"y" * 4000] * 100])


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "multipart/form-data", "multipart/mixed; boundary=x"]
)
def test_only_forms_have_a_boundary(content_type: str | None) -> None:
    """Other types of content, and forms that name no boundary, are refused."""
    with pytest.raises(MalformedBody):
        read_boundary(content_type)
    assert read_boundary("multipart/form-data; boundary=xyz") == b"xyz"
