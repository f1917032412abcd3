"""Read a multipart form part by part while its body arrives."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems.errors import MalformedBody


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part: its field name, its file name if it is a file, and its headers."""

    name: str
    filename: str | None
    headers: Mapping[str, str]


def read_boundary(content_type: str | None) -> bytes:
    """Return the boundary in a Content-Type header. Raises: MalformedBody if the content is not a multipart form."""
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        shown = repr(content_type[:100]) if content_type else "missing"
        raise MalformedBody(
            f"The Content-Type is {shown}. "
            'Send an upload as multipart/form-data with a boundary, and the file in a part named "file".'
        )
    return options[b"boundary"]


class MultipartReader:
    """Reads the parts in order: call `next_part()`, then read all of `pieces()`, and repeat.

    Args:
        body: the pieces of the body.
        boundary: the boundary that `read_boundary` returns.
    """

    def __init__(self, body: Iterator[bytes], boundary: bytes) -> None:
        self._body = body
        self._events: deque[Part | bytes | None] = deque()  # None: a part is complete
        self._complete = False
        self._headers: dict[str, str] = {}
        self._header_name = self._header_value = b""
        try:
            self._parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]
        except FormParserError as error:
            raise MalformedBody(f"The multipart form cannot be read: {error}. Send the whole form again.") from None

    def next_part(self) -> Part | None:
        """Return the next part, or None after the last. Raises: MalformedBody."""
        event = self._next()
        assert not isinstance(event, bytes), "the part before was not read to its end"  # noqa: S101
        return event

    def pieces(self) -> Iterator[bytes]:
        """Yield the content of the part that `next_part` returned. Raises: MalformedBody."""
        while isinstance(piece := self._next(), bytes):
            yield piece

    def _next(self) -> Part | bytes | None:
        """Return the parser's next event: a part, a piece of content, or None at the end of a part and after the last part."""
        while not self._events:
            chunk = next(self._body, b"")
            if not chunk:
                if not self._complete:
                    raise MalformedBody("The multipart form ends before its last boundary. Send the whole form again.")
                return None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise MalformedBody(f"The multipart form cannot be read: {error}. Send the whole form again.") from None
        return self._events.popleft()

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
            "on_part_end": lambda: self._events.append(None),
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
            raise MalformedBody("A part of the form has no name. Give each part a name in its Content-Disposition.")
        filename = options.get(b"filename")
        self._events.append(
            Part(
                options[b"name"].decode(errors="replace"),
                None if filename is None else filename.decode(errors="replace"),
                self._headers,
            )
        )
        self._headers = {}

    def _on_end(self) -> None:
        self._complete = True
