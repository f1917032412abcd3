"""Files that hold no weights, are damaged or malicious: each is refused before it does harm."""

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED

import numpy as np
import pytest
import safetensors.torch
import torch

from faal_core.weights.checkpoint_file import read_checkpoint
from faal_core.weights.safetensors_file import MAX_HEADER_BYTES, MAX_TENSORS, read_safetensors
from tests.weight_files import assert_refused, make_entry, rewrite_checkpoint, write_safetensors_file


class Canary:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a valid checkpoint of one tensor with three values."""
    torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "honest.pt")
    return tmp_path / "honest.pt"


def test_an_honest_checkpoint_is_read(checkpoint: Path) -> None:
    """The checkpoint that the other tests alter is read as it is, and after a plain copy."""
    for path in (checkpoint, rewrite_checkpoint(checkpoint, lambda _, content: content)):
        assert read_checkpoint(path)[""]["weight"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_pickled_calls_never_run(is_wrapped: bool, tmp_path: Path) -> None:
    """A pickle that would call os.mkdir is refused with the name of the call, and no folder appears."""
    canary = Canary(tmp_path / "harm")
    torch.save({"weight": torch.zeros(3), "epoch": canary} if is_wrapped else canary, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", r"would call posix\.mkdir")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(canary))
    assert_refused(tmp_path / "bare.pt", "bare pickle")
    assert not (tmp_path / "harm").exists()


def test_numpy_scalars_are_refused_with_advice(tmp_path: Path) -> None:
    """A checkpoint with a NumPy number beside the weights is refused; the message says how to save it."""
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "accuracy": np.float64(0.5)}, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", r"numpy.*save the state dict alone: torch\.save")


def test_the_legacy_format_is_refused_with_advice(tmp_path: Path) -> None:
    """A checkpoint in the format of torch before 1.6 is refused; the message says how to convert it."""
    torch.save({"weight": torch.zeros(3)}, tmp_path / "upload.pt", _use_new_zipfile_serialization=False)
    assert_refused(tmp_path / "upload.pt", r"before 1\.6.*Convert it: torch\.save")


def test_deflated_members_are_refused(checkpoint: Path) -> None:
    """A bomb, 10 MB of zeros in a few kilobytes, is refused by its compression and never unpacked."""
    bomb = rewrite_checkpoint(
        checkpoint, lambda name, content: bytes(10**7) if "data/0" in name else content, ZIP_DEFLATED
    )
    assert bomb.stat().st_size < 20_000
    assert_refused(bomb, "compressed by an unsupported method")


def test_tensors_larger_than_their_memory_are_refused(tmp_path: Path) -> None:
    """A tensor that claims 10¹² values on four bytes is refused by its claim."""
    torch.save({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", "weight claims 1,000,000,000,000 values")


def test_a_claimed_size_does_not_grow_memory(checkpoint: Path) -> None:
    """A pickle edited to claim 10⁹ values for a record of three is refused."""
    claim = b"J" + struct.pack("<i", 10**9) + b"\x85"
    upload = rewrite_checkpoint(
        checkpoint, lambda name, content: content.replace(b"QK\x00K\x03\x85", b"QK\x00" + claim)
    )
    assert_refused(upload, "cannot be read")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.empty(10**12, device="meta"), "claims"),
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "sparse, quantised"),
    ],
    ids=["meta", "sparse", "quantised"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_special_tensors_are_refused(make: Callable[[], torch.Tensor], reason: str, tmp_path: Path) -> None:
    """Tensors without memory, sparse and quantised ones are refused."""
    torch.save({"weight": make()}, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", reason)


@pytest.mark.parametrize(
    "member", ["honest/code/__torch__.py", "honest/constants.pkl", "other.txt", "honest/data/../x"]
)
def test_foreign_members_are_refused(member: str, checkpoint: Path) -> None:
    """A member that torch.save does not write, as in TorchScript archives, is refused by name."""
    assert_refused(rewrite_checkpoint(checkpoint, lambda _, content: content, **{member: b"x"}), "no member|leads out")


def test_a_damaged_pickle_is_refused_without_torchs_advice(checkpoint: Path) -> None:
    """The error for a damaged pickle states the fault, and omits torch's advice to run its code."""
    upload = rewrite_checkpoint(
        checkpoint, lambda name, content: b"\x80\x02K\x01K\x02K\x03s." if "pkl" in name else content
    )
    assert_refused(upload, "cannot be read: Can only SETITEM")


def test_a_huge_pickle_is_refused(checkpoint: Path) -> None:
    """A pickle of 20 MB, which no state dict has, is refused before it is read."""
    assert_refused(
        rewrite_checkpoint(checkpoint, lambda name, content: content + bytes(20 * 2**20) if "pkl" in name else content),
        "its pickle has",
    )


@pytest.mark.parametrize(
    "content", [[torch.zeros(3)], {"weight": "text"}, {3: torch.zeros(3)}, {"state_dict": {"a": None}}]
)
def test_other_objects_than_a_state_dict_are_refused(content: object, tmp_path: Path) -> None:
    """Lists, and mappings with keys other than names or values other than tensors, are refused."""
    torch.save(content, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", "not a (state dict|tensor)")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x89HDF\r\n", b"PK\x03\x04" + bytes(100), b"\x00" * 8 + b"{"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """Empty files, other formats and fragments are refused."""
    (tmp_path / "upload.pt").write_bytes(content)
    assert_refused(tmp_path / "upload.pt", "neither|not a readable zip|damaged")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """A missing file, and a folder, are refused with their path."""
    assert_refused(tmp_path / "none.pt", r"none\.pt cannot be read: No such file")
    assert_refused(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_truncated_checkpoint_is_refused(cut: float, checkpoint: Path) -> None:
    """A checkpoint without its end is refused."""
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(cut * len(content))])
    assert_refused(checkpoint, "not a readable zip")


@pytest.mark.parametrize("missing", ["data.pkl", "data/0"])
def test_a_checkpoint_without_a_member_is_refused(missing: str, checkpoint: Path) -> None:
    """A checkpoint that lacks its pickle or a record is refused, whatever torch raises."""
    assert_refused(
        rewrite_checkpoint(checkpoint, lambda name, content: None if missing in name else content), "cannot be read"
    )


def test_an_honest_safetensors_file_is_read(tmp_path: Path) -> None:
    """A valid file made like the altered ones is read, with its metadata."""
    header = {"__metadata__": {"note": "hand-made"}, "weight": make_entry()}
    tensors, metadata = read_safetensors(write_safetensors_file(tmp_path / "w", header, struct.pack("<f", 1.5)))
    assert tensors["weight"].tolist() == [1.5]
    assert metadata == {"note": "hand-made"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"weight": make_entry("BOOL", end=1)}, "weight has type BOOL"),
        ({"weight": make_entry("F8_E4M3", end=1)}, "weight has type F8_E4M3"),
        ({"weight": make_entry(shape=(10**12,), end=4 * 10**12)}, "damaged"),
        ({"weight": make_entry(shape=(2,))}, "damaged"),
        ({"weight": make_entry(end=2**70)}, "damaged"),
        ({"weight": {"dtype": "F32"}}, "damaged"),
        ({"weight": 3}, "damaged"),
        ({"__metadata__": {"faal": 3}, "weight": make_entry()}, "damaged"),
        ({"__metadata__": {"faal": "{}"}, "weight": make_entry()}, "description of its network is invalid"),
        ({f"w{i}": make_entry(shape=(0,), end=0) for i in range(MAX_TENSORS + 1)}, "holds 5,001 tensors"),
        (["weight"], "neither"),
    ],
)
def test_odd_safetensors_headers_are_refused(header: object, reason: str, tmp_path: Path) -> None:
    """Unusual types, sizes beyond the file, malformed entries, bad metadata and too many tensors are refused."""
    assert_refused(write_safetensors_file(tmp_path / "w", header, struct.pack("<f", 1.5)), reason)


def test_a_tensor_listed_twice_is_refused(tmp_path: Path) -> None:
    """A header that repeats a name is refused, because another reader may use the other tensor."""
    line = json.dumps({"weight": make_entry()})[1:-1]
    header = f"{{{line},{line}}}".encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert_refused(tmp_path / "w", "header is damaged")


def test_a_long_safetensors_header_is_not_read(tmp_path: Path) -> None:
    """A header that claims more than a megabyte is refused unread."""
    (tmp_path / "w").write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{" + bytes(100))
    assert_refused(tmp_path / "w", "header claims 1,048,577 bytes")


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    """A file without its last value is refused."""
    content = safetensors.torch.save({"weight": torch.zeros(100)})
    (tmp_path / "w").write_bytes(content[:-4])
    assert_refused(tmp_path / "w", "damaged")


def test_nested_headers_do_not_overflow_the_stack(tmp_path: Path) -> None:
    """A header of a hundred thousand brackets is refused as damaged."""
    content = b'{"a":' + b"[" * 100_000
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(content)) + io.BytesIO(content).getvalue())
    assert_refused(tmp_path / "w", "damaged")
