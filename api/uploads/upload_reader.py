"""Read the form of an upload while it arrives: fields, the file, and more fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from api.problems.errors import InvalidRequest
from api.uploads.digests import verify_digests
from api.uploads.multipart import MultipartReader, Part, read_boundary

HEAD = 1024 * 1024 + 8  # bytes stored for the check: the longest safetensors header that is accepted, and its length
SIGNATURE = 16  # bytes, at least, that show the type of a file
FIELD_LIMIT = 1024 * 1024  # bytes in one form field
FIELDS_LIMIT = 20  # form fields in one upload


@dataclass(frozen=True, slots=True)
class UploadedForm:
    """The form of an upload without the file's content.

    Args:
        fields: the form fields before and after the file.
        filename: the client's name for the file.
        head: the file's first `HEAD` bytes.
    """

    fields: Mapping[str, str]
    filename: str
    head: bytes


class UploadReader:
    """Reads the form of an upload once, from its first byte to its last.

    The constructor reads the fields before the file. The next step depends on `upload_id`:

    - None: the form has a file. Read `first_bytes`, then all of `content()`, then `form`.
    - an id: the form names an upload in parts. `fields` is the whole form.

    Only the fields and the first bytes of the file stay in memory.

    Raises: MalformedBody; InvalidRequest if the form has neither a file nor the id of an upload.
    """

    def __init__(self, body: Iterator[bytes], content_type: str | None) -> None:
        self.fields: dict[str, str] = {}
        self.upload_id: str | None = None
        self.first_bytes = b""
        self._multipart = MultipartReader(body, read_boundary(content_type))
        self._head = bytearray()
        self._filename = ""
        file = self._read_fields()
        if file is None and (upload_id := self.fields.pop("upload", "")):
            self.upload_id = upload_id
        elif file is None or not file.filename:
            raise InvalidRequest.for_field(
                "/file", 'the form has neither a file in a part named "file" nor the field "upload"; send one of them'
            )
        else:
            self._filename = file.filename
            self._pieces = verify_digests(self._multipart.pieces(), file.headers, "file")
            self._read_first_bytes()

    def content(self) -> Iterator[bytes]:
        """Yield the file's content, then read the fields after it. Afterwards, `form` is complete.

        An error in the rest of the form is raised before the iterator ends, so that the storage drops the received content.

        Raises: DigestMismatch, MalformedBody; InvalidRequest for a second file.
        """
        yield self.first_bytes
        for piece in self._pieces:
            self._head.extend(piece[: HEAD - len(self._head)])
            yield piece
        if self._read_fields() is not None:
            raise InvalidRequest.for_field("/file", "the form has two files; send one file in each upload")

    @property
    def form(self) -> UploadedForm:
        """Return the complete form; call it after `content()` has ended."""
        return UploadedForm(self.fields, self._filename, bytes(self._head))

    def _read_first_bytes(self) -> None:
        """Read the first bytes of the file, which show its type."""
        while len(self.first_bytes) < SIGNATURE and (piece := next(self._pieces, b"")):
            self.first_bytes += piece
        self._head.extend(self.first_bytes[:HEAD])

    def _read_fields(self) -> Part | None:
        """Add the next fields to `fields`, and return the file that follows them, or None at the end of the form."""
        while (part := self._multipart.next_part()) is not None:
            pointer = f"/{part.name}"
            if part.filename is not None and part.name == "file":
                return part
            if part.filename is not None or part.name == "file":
                raise InvalidRequest.for_field(pointer, 'send exactly one file, in the part named "file"')
            if part.name in self.fields:
                raise InvalidRequest.for_field(pointer, "the form has this field twice; send it once")
            if len(self.fields) == FIELDS_LIMIT:
                raise InvalidRequest.for_field(pointer, f"a form has at most {FIELDS_LIMIT} fields; send fewer")
            self.fields[part.name] = self._read_field(pointer)
        return None

    def _read_field(self, pointer: str) -> str:
        content = bytearray()
        for piece in self._multipart.pieces():
            content += piece
            if len(content) > FIELD_LIMIT:
                raise InvalidRequest.for_field(
                    pointer, f"a field has at most {FIELD_LIMIT:,} bytes; send a shorter value"
                )
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise InvalidRequest.for_field(pointer, "the value is not UTF-8; encode it as UTF-8") from None
