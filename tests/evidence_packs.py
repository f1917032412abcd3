"""Packs for tests: of a sample report, and forged ones."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from faal_core.evidence import envelope
from faal_core.evidence.archive import Member, write_archive
from faal_core.evidence.keys import Signer, create_key, read_signer
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.ledger import BatchResult
from faal_core.results.outcomes import Outcomes
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, draw, sample_finetune, sample_outcomes

STATEMENT = "statement.intoto.json"


def write_sample(
    folder: Path, images: int = 10, adversarial: NDArray[np.float32] | None = None, attacks: str = "pgd-20"
) -> tuple[AuditReport, Outcomes]:
    """Write a report and its outcomes into the folder, as `faal audit` does, and return them.

    Args:
        images: images of each of ten classes.
        adversarial: the adversarial images, whose digests the outcomes get.
    """
    report, outcomes = sample_outcomes(images=images, groups=("left", "right"), attacks=attacks)
    if adversarial is not None:
        evaluation = outcomes.evaluation
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in adversarial]
        texts = tuple(one if broken else "" for one, broken in zip(digests, evaluation.sha256, strict=True))
        outcomes = replace(outcomes, evaluation=replace(evaluation, sha256=texts))
        dataset = report.dataset.model_copy(update={"shape": adversarial.shape[1:]})
        report = report.model_copy(update={"outcomes_sha256": outcomes.sha256, "dataset": dataset})
    text = "\n".join(outcomes.evaluation.sha256)
    report = report.model_copy(update={"gallery": (), "adversarial_sha256": hashlib.sha256(text.encode()).hexdigest()})
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json(indent=2))
    outcomes.write(folder / "outcomes.parquet", report)
    return report, outcomes


def write_finetuning(folder: Path, hours_between: int = 0) -> FinetuneReport:
    """Write a report of a fine-tuning and its outcomes into the folder, and return the report.

    Args:
        hours_between: hours from the audit before it to the audit after it.
    """
    report = sample_finetune()
    before, outcomes_before = _name_outcomes(report.before, draw(ROBUST_BEFORE, 300, seed=1))
    after, outcomes_after = _name_outcomes(report.after, draw(ROBUST_AFTER, 300, seed=2))
    after = after.model_copy(update={"created_at": before.created_at + timedelta(hours=hours_between)})
    report = report.model_copy(update={"before": before, "after": after})
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json(indent=2))
    outcomes_before.write(folder / "outcomes-before.parquet", before)
    outcomes_after.write(folder / "outcomes-after.parquet", after)
    return report


def _name_outcomes(audit: AuditReport, evaluation: Evaluation) -> tuple[AuditReport, Outcomes]:
    outcomes = Outcomes(evaluation, np.arange(len(evaluation.labels)))
    digest = hashlib.sha256("\n".join(evaluation.sha256).encode()).hexdigest()
    names = {"outcomes_sha256": outcomes.sha256, "adversarial_sha256": digest, "gallery": ()}
    return audit.model_copy(update=names), outcomes


def make_clean_batch(outcomes: Outcomes) -> bytes:
    """Return the ledger's line of the clean predictions, in one batch."""
    one = outcomes.evaluation
    zeros, margins = (0.0,) * len(one.labels), tuple(one.clean_margin.tolist())
    batch = BatchResult(
        attack=-1,
        run=0,
        rows=tuple(range(len(one.labels))),
        predicted=tuple(one.clean.tolist()),
        margin=margins,
        logit_margin=margins,
        distance=zeros,
        sha256=("",) * len(zeros),
        forward=len(zeros),
        backward=0,
        seconds=1.0,
    )
    return batch.model_dump_json().encode()


def make_signer(folder: Path, name: str | None = None, file: str = "key.pem") -> Signer:
    """Return a signer with a new key in the folder."""
    create_key(folder / file)
    return read_signer(folder / file, bytes, name)


def read_members(pack: Path) -> dict[str, bytes]:
    """Return the files of a pack."""
    with ZipFile(pack) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(pack: Path, members: Mapping[str, bytes]) -> None:
    """Write a pack of these files, in the form that FAAL writes."""
    with pack.open("wb") as file:
        write_archive(file, {name: Member.from_bytes(content) for name, content in members.items()})


def read_statement(pack: Path) -> dict[str, Any]:
    """Return the statement of a pack."""
    statement: dict[str, Any] = json.loads(base64.b64decode(json.loads(read_members(pack)[STATEMENT])["payload"]))
    return statement


def forge(pack: Path, changes: Mapping[str, bytes | None], signer: Signer | None = None, **facts: object) -> None:
    """Change files of a pack as a forger does: the digests in its statement fit again, and it is signed again.

    Args:
        changes: new contents by name; None removes a file.
        facts: new values of the statement's own fields.
    """
    statement = read_statement(pack)
    members = {name: content for name, content in (read_members(pack) | changes).items() if content is not None}
    del members[STATEMENT]
    weights, *_ = statement["subject"]
    statement["subject"] = [
        weights,
        *({"name": name, "digest": {"sha256": hashlib.sha256(members[name]).hexdigest()}} for name in sorted(members)),
    ]
    digests = {one["name"]: one["digest"] for one in statement["subject"]}
    for one in statement["predicate"]["configuration"]:
        one["digest"] = digests.get(one["name"], one["digest"])
    statement["predicate"]["faal"] |= facts
    if signer is not None:
        statement["predicate"]["faal"]["signer"] = {"name": signer.name, "publicKey": signer.public_key.pem}
    write_members(pack, members | {STATEMENT: envelope.seal(statement, signer)})
