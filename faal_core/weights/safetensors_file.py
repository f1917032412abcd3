"""safetensors files: read tensors and metadata after a check of the header, and write a file atomically."""

import json
import os
from pathlib import Path
from uuid import uuid4

import safetensors
import safetensors.torch
from torch import Tensor

from faal_core.errors import WeightsUnreadable
from faal_core.errors.memory_exhaustion import require_memory

MAX_HEADER_BYTES = 2**20
MAX_TENSORS = 5_000
MAX_NAME = 1_000  # characters
MAX_DIMENSIONS = 8
DTYPES = {"F16", "BF16", "F32", "F64", "I64"}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of `path`, on the CPU, and its metadata. Raises: WeightsUnreadable."""
    metadata = _read_metadata(path)
    try:
        return safetensors.torch.load_file(path), metadata
    except (safetensors.SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        require_memory(error, "to read the safetensors file")
        raise WeightsUnreadable(f"The safetensors file is damaged: {error}") from None


def _read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata. Raises: WeightsUnreadable for a header that is too long or lists too many or unusual tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise WeightsUnreadable(
                f"The safetensors header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read."
            )
        content = file.read(length)
    try:
        header = json.loads(content, object_pairs_hook=_reject_duplicates)
        metadata = header.pop("__metadata__", {})
        kinds = {name: str(entry["dtype"]) for name, entry in header.items()}
        dimensions = {name: len(entry["shape"]) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WeightsUnreadable("The safetensors header is damaged.") from None
    if len(kinds) > MAX_TENSORS:
        raise WeightsUnreadable(f"The file holds {len(kinds):,} tensors; at most {MAX_TENSORS:,} are read.")
    for name, kind in kinds.items():
        if kind not in DTYPES:
            raise WeightsUnreadable(
                f"{name[:100]} has type {kind[:20]}; the supported types are {', '.join(sorted(DTYPES))}."
            )
        if len(name) > MAX_NAME:
            raise WeightsUnreadable(
                f"The key {name[:50]!r}… has {len(name):,} characters; at most {MAX_NAME:,} are read."
            )
        if dimensions[name] > MAX_DIMENSIONS:
            raise WeightsUnreadable(f"{name} has {dimensions[name]:,} dimensions; at most {MAX_DIMENSIONS} are read.")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsUnreadable("The safetensors header is damaged: its metadata must be strings.")
    return metadata


def _reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs as an object. Raises: ValueError for a repeated name: readers differ in which one they use."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("the header repeats a name")
    return entries


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write `path` atomically: if the process is killed, the old file remains. Raises: OSError."""
    temporary = path.with_name(f".{uuid4().hex}.part")
    try:
        safetensors.torch.save_file(tensors, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
