"""Recognise ONNX files by their first bytes. Such a file is a network of its own, with the architecture `onnx`."""

ONNX = "onnx"
"""The architecture of a network that comes as an ONNX file."""
MEDIA_TYPE = "application/onnx"
_FIELDS_AFTER_VERSION = b"\x12\x1a\x22\x28\x32\x3a\x42"  # fields 2 to 8 of ModelProto


def is_onnx(start: bytes) -> bool:
    """Return whether a file's first three bytes are those of an ONNX file: the version of its format, and another field.

    No safetensors file begins so: its header would have more than a million bytes.
    """
    return len(start) >= 3 and start[0] == 0x08 and 0 < start[1] < 0x80 and start[2] in _FIELDS_AFTER_VERSION
