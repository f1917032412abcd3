"""Files written by `torch.save`: read the tensors in them without running any of their code."""

import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile, ZipInfo

import torch
from torch import Tensor

from faal_core.archives import UnsafeArchive, list_safe_members, open_archive
from faal_core.errors import WeightsUnreadable
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.weights.pickle_effort import TooMuchEffort, check_effort
from faal_core.weights.safetensors_file import MAX_DIMENSIONS
from faal_core.weights.tensor_tree import ADVICE, TensorTree, collect_tensors

MAX_MEMBERS = 20_000
MAX_PICKLE_BYTES = 16 * 2**20

# The members that torch.save writes in a root folder, from torch 1.6 on.
_MEMBER = re.compile(
    r"[^/]+/(data\.pkl|data/[\w.-]+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)


def read_checkpoint(path: Path) -> TensorTree:
    """Return the tensors in `path`, on the CPU, by the path of the mapping around them and by the file's key names.

    The archive is checked before torch reads it, because torch would unpack a deflate bomb. It is unpickled with
    `weights_only=True`. Values other than tensors are left out.

    Raises: WeightsUnreadable.
    """
    _check_archive(path)
    return collect_tensors(_unpickle(path))


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Check that each tensor is dense and fits into the memory that was read for it. Raises: WeightsUnreadable."""
    for name, value in tensors.items():
        if type(value) not in (Tensor, torch.nn.Parameter) or value.layout is not torch.strided or value.is_quantized:
            raise WeightsUnreadable(
                f"{name} is a sparse, quantised or otherwise special tensor; save it as a dense one."
            )
        if value.device.type != "cpu" or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsUnreadable(f"{name} claims {value.numel():,} values, but the checkpoint holds fewer.")
        if value.ndim > MAX_DIMENSIONS:
            raise WeightsUnreadable(f"{name} has {value.ndim:,} dimensions; at most {MAX_DIMENSIONS} are read.")


def _check_archive(path: Path) -> None:
    """Check that the members are those that torch.save writes, uncompressed, and that the pickle is cheap to read.

    Raises: WeightsUnreadable.
    """
    try:
        with open_archive(path) as archive:
            members = list_safe_members(archive, most=MAX_MEMBERS, compressed=False)
            _check_members(members)
            for member in members:
                if member.filename.endswith("/data.pkl"):
                    check_effort(archive.read(member))
    except (UnsafeArchive, TooMuchEffort) as error:
        raise WeightsUnreadable(f"The checkpoint is refused: {error}.") from None
    except (ValueError, BadZipFile, EOFError) as error:
        raise WeightsUnreadable(f"The checkpoint cannot be read: {error}") from None


def _check_members(members: list[ZipInfo]) -> None:
    """Check the members' names and sizes. Raises: WeightsUnreadable."""
    for member in members:
        if not _MEMBER.fullmatch(member.filename):
            raise WeightsUnreadable(
                f"The checkpoint is refused: torch.save writes no member {member.filename!r}. TorchScript and exported "
                f"programs can run code; {ADVICE}"
            )
        if member.filename.endswith("/data.pkl") and member.file_size > MAX_PICKLE_BYTES:
            raise WeightsUnreadable(
                f"The checkpoint is refused: its pickle has {member.file_size:,} bytes; the limit is {MAX_PICKLE_BYTES:,}."
            )
        if member.compress_size != member.file_size:
            raise WeightsUnreadable(f"The checkpoint is refused: {member.filename!r} has two different sizes.")


def _unpickle(path: Path) -> object:
    """Return the pickle's content. Raises: WeightsUnreadable where it is damaged or would call functions."""
    try:
        with path.open("rb") as file:  # an open file, because torch treats some paths specially
            calls = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            file.seek(0)
            if not calls:
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile pickle can raise anything
        require_memory(error, "to read the checkpoint")
        reason = str(error)
        reason = reason.partition("WeightsUnpickler error:")[2] or reason  # the text before it advises to run the code
        reason = (reason.strip().splitlines() or [type(error).__name__])[0]
        raise WeightsUnreadable(f"The checkpoint cannot be read: {reason[:200]}") from None
    raise WeightsUnreadable(
        f"The checkpoint is refused: reading it would call {', '.join(calls[:3])}. Only tensors in plain containers "
        f"are read; {ADVICE}"
    )
