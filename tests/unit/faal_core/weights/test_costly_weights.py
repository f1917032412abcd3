"""Small files that ask for much work: each is refused before the work starts."""

from pathlib import Path

import pytest
import torch

from faal_core.errors import WeightsMismatch
from faal_core.specs import ClassifierSpec
from faal_core.weights import read_classifier
from tests.weight_files import SPEC, assert_refused, make_entry, rewrite_checkpoint, write_safetensors_file


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a valid checkpoint of one tensor with three values."""
    torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "honest.pt")
    return tmp_path / "honest.pt"


def rewrite_pickle(operations: bytes, checkpoint: Path) -> Path:
    """Return the checkpoint with a pickle of those operations."""
    return rewrite_checkpoint(checkpoint, lambda name, content: b"\x80\x02" + operations if "pkl" in name else content)


PAIRS = b"K\x01q\x00" + b"".join(b"h%ch%c\x86q%c" % (depth, depth, depth + 1) for depth in range(60))
COLLIDING = b"".join(b"\x8a\x0c" + (1024 * i * (2**61 - 1)).to_bytes(12, "little") + b"K\x01" for i in range(1, 30_000))
MANY = b"ccollections\nCounter\n(ctorch._utils\n_rebuild_tensor_v2\n)RtR."


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        pytest.param(b"}" + PAIRS + b"K\x01s.", "refers to more than 10,000,000 values", id="pairs of pairs as a key"),
        pytest.param(b"}K\x01" + b"\x85" * 100_000 + b"K\x01s.", "nests values more than 200 deep", id="a deep key"),
        pytest.param(b"]" * 100_000 + b"a" * 99_999 + b".", "nests values more than 200 deep", id="lists in lists"),
        pytest.param(b"}(" + COLLIDING + b"u.", "integers of more than 8 bytes", id="keys of one hash"),
        pytest.param(b"]" + b"K\x010" * 310_000 + b".", "more than 600,000 operations", id="idle operations"),
        pytest.param(b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "calls bytearray", id="two gigabytes"),
        pytest.param(MANY, "calls collections.Counter on a tensor", id="counting a tensor's values"),
    ],
)
@pytest.mark.timeout(60)
def test_small_pickles_of_much_work_are_refused_unread(operations: bytes, reason: str, checkpoint: Path) -> None:
    """A pickle that would take minutes to read is refused by its operations."""
    assert_refused(rewrite_pickle(operations, checkpoint), reason)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["." * 10**6, "a." * 10**5, "x" * 1001])
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_long_names_are_refused(name: str, is_wrapped: bool, tmp_path: Path) -> None:
    """A key that is longer than any module's is refused by its length, before its parts are examined."""
    torch.save({name: {"weight": torch.zeros(3)}} if is_wrapped else {name: torch.zeros(3)}, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", f"has {len(name):,} characters")
    if not is_wrapped:
        header = {name: make_entry()}
        assert_refused(write_safetensors_file(tmp_path / "w", header, bytes(4)), f"has {len(name):,} characters")


@pytest.mark.timeout(60)
def test_mappings_that_hold_each_other_end(tmp_path: Path) -> None:
    """A mapping that contains itself, and one that occurs a hundred thousand times, are read no further than the limits."""
    endless: dict[str, object] = {"weight": torch.zeros(3)}
    endless["again"] = endless
    torch.save(endless, tmp_path / "upload.pt")
    with pytest.raises(WeightsMismatch, match="do not fit"):
        read_classifier(tmp_path / "upload.pt", SPEC)
    often: dict[str, object] = {"weight": torch.zeros(3)}
    for _ in range(5):
        often = dict.fromkeys(map(str, range(10)), often)
    torch.save(often, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", "more than 20,000 mappings or 200,000 entries")


def test_tensors_of_many_dimensions_are_refused(tmp_path: Path) -> None:
    """A tensor of a hundred dimensions is refused in either format, with a short message."""
    torch.save({"weight": torch.zeros((1,) * 100)}, tmp_path / "upload.pt")
    assert_refused(tmp_path / "upload.pt", "weight has 100 dimensions")
    assert_refused(
        write_safetensors_file(tmp_path / "w", {"weight": make_entry(shape=(1,) * 100_000)}, bytes(4)),
        "100,000 dimensions",
    )


def test_records_that_overlap_are_refused(checkpoint: Path) -> None:
    """An archive whose members overlap, so that they unpack to more bytes than the file has, is refused."""
    name, values = "honest/data/0", bytes(100_000)
    big = rewrite_checkpoint(checkpoint, lambda member, content: values if member == name else content)
    content = big.read_bytes()
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    entry_of_0 = content[start : content.index(name.encode(), start) + len(name)]
    end = content.rindex(b"PK\x05\x06")
    more = b"".join(entry_of_0.replace(name.encode(), b"honest/data/%d" % i) for i in range(1, 10))
    count = int.from_bytes(content[end + 10 : end + 12], "little") + 9
    size = int.from_bytes(content[end + 12 : end + 16], "little") + len(more)
    counts = count.to_bytes(2, "little") * 2 + size.to_bytes(4, "little")
    big.write_bytes(content[:end] + more + content[end : end + 8] + counts + content[end + 16 :])
    assert_refused(big, "its members claim 1,[0-9]{3},[0-9]{3} bytes, but the file has 10[0-9],[0-9]{3}: they overlap")


@pytest.mark.timeout(60)
def test_a_large_network_is_not_built_for_a_small_file(tmp_path: Path) -> None:
    """A file of a few bytes for a network of 46 million parameters is refused before the network is built."""
    spec = ClassifierSpec(architecture="wrn_34_10", num_classes=10_000, mean=(0.0,) * 3, std=(1.0,) * 3)
    torch.save({"conv1.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "upload.pt")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(WeightsMismatch, match="keys are missing"):
        read_classifier(tmp_path / "upload.pt", spec)
    assert torch.equal(torch.get_rng_state(), before)
