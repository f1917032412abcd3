"""A pack of a fine-tuning has the outcomes of both audits, and its comparison is computed again."""

import json
from pathlib import Path

import pytest

from faal_core.errors import InvalidSpec
from faal_core.evidence import verify_pack, write_pack
from tests.evidence_packs import forge, read_members, read_statement, write_finetuning


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files of a fine-tuning, and their pack."""
    write_finetuning(tmp_path / "out")
    write_pack(tmp_path / "pack.zip", tmp_path / "out")
    return tmp_path


def test_a_pack_of_a_fine_tuning_is_verified(folder: Path) -> None:
    """Both audits and the comparison between them follow from the outcomes."""
    assert verify_pack(folder / "pack.zip").verified
    audits = read_statement(folder / "pack.zip")["predicate"]["faal"]["audits"]
    assert [one["outcomes"] for one in audits] == ["outcomes-before.parquet", "outcomes-after.parquet"]


@pytest.mark.parametrize(
    "field",
    [
        "before.robust.worst.value",
        "after.clean.mean.rate",
        "robust.mean_change.low",
        "clean.worst_change.value",
        "outcome",
    ],
)
def test_other_numbers_are_refused(folder: Path, field: str) -> None:
    """A changed number of either audit or of the comparison, and another outcome, are refused by their paths."""
    report = json.loads(read_members(folder / "pack.zip")["report.json"])
    *path, last = field.split(".")
    target = report
    for step in path:
        target = target[step]
    target[last] = "worse" if field == "outcome" else 0.123
    forge(folder / "pack.zip", {"report.json": json.dumps(report).encode()})
    (check,) = (check for check in verify_pack(folder / "pack.zip").checks if check.name == "statistics")
    assert check.status == "failed"
    assert field in check.details


def test_a_ledger_is_of_an_audit(folder: Path) -> None:
    """The ledger of one audit makes no pack with a fine-tuning, which has two."""
    (folder / "a.ledger").write_bytes(b'{"identity": "0"}\n{}\n')
    with pytest.raises(InvalidSpec, match="The files do not make a pack"):
        write_pack(folder / "pack.zip", folder / "out", ledger=folder / "a.ledger")
