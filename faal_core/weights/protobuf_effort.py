"""Bound the memory that parsing a protobuf message takes: a field of two bytes becomes an object of a hundred.

Source: https://protobuf.dev/programming-guides/encoding
"""

from functools import cache
from typing import Any

MAX_FIELDS = 1_000_000  # of all messages
MAX_DEPTH = 12  # of messages in one another; a tensor in an attribute of a node has four
MAX_PACKED = 2**24  # bytes of integers of variable length, each of which becomes up to eight bytes
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TooManyFields(ValueError):
    """The message is damaged, or would take too much memory."""


def check_fields(content: bytes, descriptor: Any) -> None:  # noqa: ANN401 - protobuf has no types
    """Check the number and the nesting of the fields in `content`, a message of that type.

    Cost: one to two microseconds a field. Raises: TooManyFields.
    """
    fields, packed = 0, 0
    pending = [(0, len(content), descriptor, 1)]
    while pending:
        place, end, kind, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise TooManyFields(f"messages are nested more than {MAX_DEPTH} deep")
        messages, integers = _describe(kind)
        while place < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise TooManyFields(f"it has more than {MAX_FIELDS:,} fields")
            tag, place = _read_varint(content, place, end)
            wire_type, number = tag & 7, tag >> 3
            if wire_type == _VARINT:
                _, place = _read_varint(content, place, end)
            elif wire_type == _BYTES:
                length, place = _read_varint(content, place, end)
                if number in messages:
                    pending.append((place, min(place + length, end), messages[number], depth + 1))
                elif number in integers:
                    packed += length
                place += length
            elif wire_type in (_FIXED32, _FIXED64):
                place += 4 if wire_type == _FIXED32 else 8
            else:
                raise TooManyFields("it has a field of an unknown type")
            if place > end:
                raise TooManyFields("it ends in the middle of a field")
    if packed > MAX_PACKED:
        raise TooManyFields(f"its integers take {packed:,} bytes; at most {MAX_PACKED:,} are read")


def _read_varint(content: bytes, place: int, end: int) -> tuple[int, int]:
    """Return the integer at that place, and the place after it. Raises: TooManyFields."""
    value = shift = 0
    while place < end and shift < 70:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise TooManyFields("it ends in the middle of a number")


@cache
def _describe(descriptor: Any) -> tuple[dict[int, Any], frozenset[int]]:  # noqa: ANN401
    """Return the fields of a message that are messages, by number, and those that are lists of integers."""
    fields = descriptor.fields_by_number
    messages = {number: field.message_type for number, field in fields.items() if field.message_type is not None}
    return messages, frozenset(number for number, field in fields.items() if field.cpp_type in _integer_types(field))


def _integer_types(field: Any) -> tuple[int, ...]:  # noqa: ANN401
    return field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_UINT32, field.CPPTYPE_UINT64
