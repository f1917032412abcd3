"""Files written by `torch.save`: the one state dict in them, read without running any of their code."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from faal_core.archives import UnsafeArchive, open_archive, safe_members
from faal_core.errors import WeightsUnreadable

MAX_MEMBERS = 20_000
MAX_PICKLE_BYTES = 16 * 2**20
ADVICE = "save the state dict alone: torch.save(model.state_dict(), path)."
WRAPPERS = ("state_dict", "model_state_dict", "best_state_dict", "net", "model")

# What torch.save has written beside a root folder's name, from torch 1.6 on.
_MEMBER = re.compile(
    r"[^/]+/(data\.pkl|data/[\w.-]+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of the state dict in `path`, on the CPU, with the file's own key names and types.

    The archive is judged before torch reads it: torch itself would follow a deflate bomb. Then it is unpickled with
    `weights_only=True`, never otherwise, and each tensor is checked to be no larger than the memory it lies in.
    Raises: WeightsUnreadable.
    """
    _check_archive(path)
    return _only_tensors(_state_dict(_unpickle(path)))


def _check_archive(path: Path) -> None:
    """Nothing. Raises: WeightsUnreadable where the members are not those that torch.save writes, uncompressed."""
    try:
        with open_archive(path) as archive:
            members = safe_members(archive, most=MAX_MEMBERS, compressed=False)
    except UnsafeArchive as error:
        raise WeightsUnreadable(f"The checkpoint is refused: {error}.") from None
    for member in members:
        if not _MEMBER.fullmatch(member.filename):
            raise WeightsUnreadable(
                f"The checkpoint is refused: torch.save writes no member {member.filename!r}. TorchScript and exported "
                f"programs can run code; {ADVICE}"
            )
        if member.filename.endswith("/data.pkl") and member.file_size > MAX_PICKLE_BYTES:
            raise WeightsUnreadable(f"The checkpoint is refused: its pickle has {member.file_size:,} bytes.")
        if member.compress_size != member.file_size:
            raise WeightsUnreadable(f"The checkpoint is refused: {member.filename!r} states two different sizes.")


def _unpickle(path: Path) -> object:
    """What the pickle holds. Raises: WeightsUnreadable where it is damaged or would call anything of its own choice."""
    try:
        with path.open("rb") as file:  # an open file, because torch goes by the names of some paths
            calls = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            file.seek(0)
            if not calls:
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile pickle can raise anything
        told = str(error)
        told = told.partition("WeightsUnpickler error:")[2] or told  # what stands before it advises to run the code
        reason = (told.strip().splitlines() or [type(error).__name__])[0]
        raise WeightsUnreadable(f"The checkpoint cannot be read: {reason[:200]}") from None
    raise WeightsUnreadable(
        f"The checkpoint is refused: reading it would call {', '.join(calls[:3])}. Only tensors in plain containers "
        f"are read; {ADVICE}"
    )


def _state_dict(loaded: object) -> Mapping[object, object]:
    """The mapping of names to tensors: `loaded` itself, or the one under a customary name in it."""
    if not isinstance(loaded, Mapping):
        raise WeightsUnreadable(f"The checkpoint holds a {type(loaded).__name__}, not a state dict.")
    found = [name for name in WRAPPERS if isinstance(loaded.get(name), Mapping)]
    if len(found) > 1:
        raise WeightsUnreadable(
            f"The checkpoint holds several state dicts ({', '.join(found)}); save the one that is meant."
        )
    state_dict: Mapping[object, object] = loaded[found[0]] if found else loaded
    return state_dict


def _only_tensors(state_dict: Mapping[object, object]) -> dict[str, Tensor]:
    """The same mapping, once every name is a string and every value a plain tensor that lies whole in its memory."""
    tensors = {}
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsUnreadable(
                f"The checkpoint's entry {str(name)[:100]!r} is a {type(value).__name__}, not a tensor; {ADVICE} "
                f"Wrapped state dicts are looked for under {', '.join(WRAPPERS)}."
            )
        if type(value) not in (Tensor, torch.nn.Parameter) or value.layout is not torch.strided or value.is_quantized:
            raise WeightsUnreadable(
                f"{name} is a sparse, quantised or otherwise special tensor; save it as a dense one."
            )
        if value.device.type != "cpu" or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsUnreadable(f"{name} claims {value.numel():,} values, more than the checkpoint holds for it.")
        tensors[name] = value.detach()
    return tensors
