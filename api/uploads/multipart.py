"""A multipart form, pulled part by part out of its body while the body arrives."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems.errors import MalformedBody


@dataclass(frozen=True, slots=True)
class Part:
    """What stands in front of a part's content: its field name, its file name if it is a file, and its headers."""

    name: str
    filename: str | None
    headers: Mapping[str, str]


def boundary_of(content_type: str | None) -> bytes:
    """The boundary between parts that a Content-Type header names. Raises: MalformedBody for other content."""
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise MalformedBody('An upload is sent as multipart/form-data, with the file in a part named "file".')
    return options[b"boundary"]


class MultipartReader:
    """Reads parts in their order: `next_part()`, then all of `pieces()`, and again.

    Args:
        body: the pieces of the body.
        boundary: as `boundary_of` reads it.
    """

    def __init__(self, body: Iterator[bytes], boundary: bytes) -> None:
        self._body = body
        self._found: deque[Part | bytes | None] = deque()  # None: a part is complete
        self._complete = False
        self._headers: dict[str, str] = {}
        self._header_name = self._header_value = b""
        try:
            self._parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]
        except FormParserError as error:
            raise MalformedBody(f"The form cannot be read: {error}.") from None

    def next_part(self) -> Part | None:
        """The next part, or nothing after the last. Raises: MalformedBody."""
        found = self._next()
        assert not isinstance(found, bytes), "the part before was not read to its end"  # noqa: S101
        return found

    def pieces(self) -> Iterator[bytes]:
        """The content of the part that `next_part` named. Raises: MalformedBody."""
        while isinstance(piece := self._next(), bytes):
            yield piece

    def _next(self) -> Part | bytes | None:
        """What the parser found next; None at the end of a part, and again after the last part."""
        while not self._found:
            chunk = next(self._body, b"")
            if not chunk:
                if not self._complete:
                    raise MalformedBody("The form ends before its last boundary.")
                return None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise MalformedBody(f"The form cannot be read: {error}.") from None
        return self._found.popleft()

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._found.append(data[start:end]),
            "on_part_end": lambda: self._found.append(None),
            "on_end": self._on_end,
        }

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value.decode("latin-1")
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        if b"name" not in options:
            raise MalformedBody("A part of the form has no name.")
        filename = options.get(b"filename")
        self._found.append(
            Part(
                options[b"name"].decode(errors="replace"),
                None if filename is None else filename.decode(errors="replace"),
                self._headers,
            )
        )
        self._headers = {}

    def _on_end(self) -> None:
        self._complete = True
