"""The outcome of each image of an audit: what is stored beside a report, and what all of its statistics are computed from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport
from faal_core.results.frames import Columns, write_columns
from faal_core.results.image_outcomes import UNBROKEN, Evaluation, Rows

PARQUET_TYPE = "application/vnd.apache.parquet"
"""Media type of stored outcomes."""
GROUP = "group "
"""Begins the name of a column of groups."""
_MOST_BYTES = 4096  # decoded, per image: a report has up to twenty attacks and a few columns of groups


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Holds one row per audited image, in the order of the audit.

    Args:
        evaluation: labels, predictions and margins of the images.
        rows: place of each image in the data set, from 0.
        groups: for each column of groups, the group of each image.
    """

    evaluation: Evaluation
    rows: Rows
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Return the digest that a report names. It does not depend on the file format.

        SHA-256 over each column in turn: its name as a JSON text, a line feed, and its values. Numbers are 64 bits long,
        least significant byte first; texts are a JSON list.
        """
        digest = hashlib.sha256()
        for name, values in self._stored_values().items():
            digest.update(json.dumps(name).encode() + b"\n")
            if isinstance(values, np.ndarray):
                digest.update(values.astype("<f8" if values.dtype.kind == "f" else "<i8").tobytes())
            else:
                digest.update(json.dumps(list(values)).encode())
        return digest.hexdigest()

    def _stored_values(self) -> dict[str, np.ndarray | tuple[str, ...]]:
        """Return the columns that the others follow from."""
        one = self.evaluation
        return {
            "image": self.rows,
            "label": one.labels,
            "clean_prediction": one.clean,
            "attacked_prediction": one.attacked,
            "attack": one.broken_by,
            "clean_margin": one.clean_margin,
            "margin": one.margin,
            "distance": one.distance,
            "sha256": one.sha256,
            **({} if one.certified is None else {"certified": one.certified.astype(np.int64)}),
            **{GROUP + column: values for column, values in self.groups.items()},
        }

    def columns(self, report: AuditReport) -> Columns:
        """Return the outcomes as columns, with the names of classes and attacks that `report` has.

        Columns:
            image: place of the image in the data set, from 0.
            label, class: its class, as number and name.
            clean_prediction, attacked_prediction: the class predicted without an attack, and after the attack that broke the
                image.
            clean, robust: whether the image is classified correctly without an attack, and also after every attack.
            after N: NAME: whether it is classified correctly without an attack and after the attacks 1 to N.
            attack, broken_by: number, from 1, and name of the attack that broke it; null where none did.
            clean_margin, margin: probability of the label minus that of the likeliest other class: of the image without an
                attack, and the smallest over this image and all attacks.
            distance: norm of the perturbation that broke it; null where none did.
            sha256: of the adversarial image's float32 pixels; null where no attack broke it.
            certified: whether bounds prove that no perturbation changes the class, so that the image was not attacked; only
                where bounds were computed.
            group …: its group in each column of groups.
        """
        one, names = self.evaluation, [attack.name for attack in report.attacks]
        numbers = one.broken_by.tolist()
        columns: dict[str, Any] = {
            "image": self.rows.tolist(),
            "label": one.labels.tolist(),
            "class": [report.dataset.class_names[label] for label in one.labels],
            "clean_prediction": one.clean.tolist(),
            "attacked_prediction": one.attacked.tolist(),
            "clean": one.correct.tolist(),
            "robust": one.robust.tolist(),
            **{f"after {k + 1}: {name}": one.correct_after(k).tolist() for k, name in enumerate(names)},
            "attack": [None if number == UNBROKEN else number + 1 for number in numbers],
            "broken_by": [None if number == UNBROKEN else names[number] for number in numbers],
            "clean_margin": one.clean_margin.tolist(),
            "margin": one.margin.tolist(),
            "distance": [
                None if number == UNBROKEN else value
                for number, value in zip(numbers, one.distance.tolist(), strict=True)
            ],
            "sha256": [digest or None for digest in one.sha256],
        }
        if one.certified is not None:
            columns["certified"] = one.certified.tolist()
        return columns | {GROUP + column: list(values) for column, values in self.groups.items()}

    def write(self, path: Path, report: AuditReport) -> None:
        """Write the columns to a .parquet or .csv file; a Parquet file has the spec and digests of the report as metadata.

        Raises: InvalidSpec for another ending, and if pyarrow is missing; OSError.
        """
        metadata = {"classifier": report.classifier.sha256, "dataset": report.dataset.sha256}
        write_columns(path, self.columns(report), {**metadata, "spec": report.spec.model_dump(mode="json")})


def read_outcomes(path: Path, report: AuditReport) -> Outcomes:
    """Return the outcomes in a Parquet file that `Outcomes.write` wrote.

    Raises: InvalidSpec if the file is damaged or is not of this report, or if pyarrow is missing; OSError.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InvalidSpec(
            "Stored outcomes need pyarrow, which is not installed. Run pip install 'faal[torch]'."
        ) from None
    foreign = InvalidSpec(
        f"{path} does not hold the outcomes of this report: it was changed, or it is of another audit."
    )
    with path.open("rb") as content:
        try:
            file = pq.ParquetFile(content)
            groups = [name for name in file.schema_arrow.names if name.startswith(GROUP)]
            certified = [name for name in file.schema_arrow.names if name == "certified"]
            decoded = sum(file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups))
            images = report.robust.mean.images
            if file.metadata.num_rows != images or decoded > _MOST_BYTES * images + _MOST_BYTES:
                raise foreign
            outcomes = _build(file.read([*_FIELDS, *certified, *groups]).to_pydict(), groups)
        except (pa.ArrowException, KeyError, OSError, OverflowError, TypeError, ValueError):
            raise foreign from None
    if outcomes.sha256 != report.outcomes_sha256 or not _fits(outcomes, report):
        raise foreign
    return outcomes


def _fits(outcomes: Outcomes, report: AuditReport) -> bool:
    """Return whether classes and attacks are those of the report; images that were never evaluated have the class −1."""
    one, classes = outcomes.evaluation, len(report.dataset.class_names)
    predictions = np.stack([one.clean, one.attacked])
    return bool(
        ((one.labels >= 0) & (one.labels < classes)).all()
        and ((predictions >= -1) & (predictions < classes)).all()
        and ((one.broken_by >= UNBROKEN) & (one.broken_by < len(report.attacks))).all()
    )


_FIELDS = (
    "image",
    "label",
    "clean_prediction",
    "attacked_prediction",
    "attack",
    "clean_margin",
    "margin",
    "distance",
    "sha256",
)


def _build(columns: Mapping[str, Any], groups: list[str]) -> Outcomes:
    attacks = [UNBROKEN if number is None else number - 1 for number in columns["attack"]]
    evaluation = Evaluation(
        labels=np.array(columns["label"], np.int64),
        clean=np.array(columns["clean_prediction"], np.int64),
        attacked=np.array(columns["attacked_prediction"], np.int64),
        broken_by=np.array(attacks, np.int64),
        distance=np.array([value or 0.0 for value in columns["distance"]], np.float64),
        clean_margin=np.array(columns["clean_margin"], np.float64),
        margin=np.array(columns["margin"], np.float64),
        sha256=tuple(digest or "" for digest in columns["sha256"]),
        certified=np.array(columns["certified"], np.bool_) if "certified" in columns else None,
    )
    return Outcomes(
        evaluation,
        np.array(columns["image"], np.int64),
        {name.removeprefix(GROUP): tuple(columns[name]) for name in groups},
    )
