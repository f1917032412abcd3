"""A pack of a fine-tuning has the outcomes of both audits, and its comparison is computed again."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from faal_core.errors import InvalidSpec
from faal_core.evidence import verify_pack, write_pack
from faal_core.reports import files
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.outcomes import Outcomes
from tests.evidence_packs import forge, read_members, read_statement
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, draw, sample_finetune


def _name_outcomes(audit: AuditReport, evaluation: Evaluation) -> tuple[AuditReport, Outcomes]:
    outcomes = Outcomes(evaluation, np.arange(len(evaluation.labels)))
    digest = hashlib.sha256("\n".join(evaluation.sha256).encode()).hexdigest()
    names = {"outcomes_sha256": outcomes.sha256, "adversarial_sha256": digest, "gallery": ()}
    return audit.model_copy(update=names), outcomes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files of a fine-tuning, and their pack."""
    report = sample_finetune()
    before, outcomes_before = _name_outcomes(report.before, draw(ROBUST_BEFORE, 300, seed=1))
    after, outcomes_after = _name_outcomes(report.after, draw(ROBUST_AFTER, 300, seed=2))
    report = report.model_copy(update={"before": before, "after": after})
    files.save(report, tmp_path / "out", outcomes_before, outcomes_after)
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
