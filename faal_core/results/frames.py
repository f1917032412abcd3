"""Results as columns and as data frames: one row per class, one row per image."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import Comparison
from faal_core.results.image_outcomes import UNBROKEN, Evaluation, Rows

Columns = Mapping[str, Sequence[Any]]
# Arrow's types of columns in which all values may be null
_NULLABLE = {"broken_by": "string", "distance": "double", "sha256": "string"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # begins a cell that a spreadsheet computes


def class_columns(report: AuditReport) -> Columns:
    """Return an audit's rates: one row per class that has images, in label order.

    The column `complete` says whether the attacks tried every image; otherwise the robust rates are too high.
    """
    rows = report.classes
    columns: dict[str, Sequence[Any]] = {
        "class": [row.name for row in rows],
        "images": [row.images for row in rows],
    }
    for kind in ("clean", "robust"):
        rates = [getattr(row, kind) for row in rows]
        columns[kind] = [rate.rate for rate in rates]
        columns[f"{kind}_low"] = [rate.low for rate in rates]
        columns[f"{kind}_high"] = [rate.high for rate in rates]
    for number, name in enumerate(_attack_columns(report)):
        columns[name] = [row.after_attack[number].rate for row in rows]
    return columns | {"complete": [report.complete] * len(rows)}


def change_columns(clean: Comparison, robust: Comparison) -> Columns:
    """Return the paired changes of two evaluations of the same images: one row per class, in label order."""
    columns: dict[str, Sequence[Any]] = {"class": [row.name for row in robust.classes]}
    for kind, comparison in (("clean", clean), ("robust", robust)):
        for field in ("before", "after", "gained", "lost", "p_adjusted", "verdict"):
            columns[f"{kind}_{field}"] = [getattr(row, field) for row in comparison.classes]
    return columns


def image_columns(
    evaluation: Evaluation, report: AuditReport, rows: Rows, groups: Mapping[str, Sequence[str]]
) -> Columns:
    """Return the outcome of each image, in the order of the audit.

    Columns:
        image: place of the image in the data set, from 0.
        label, class: its class, as number and name.
        clean_prediction, attacked_prediction: the class predicted without an attack, and after the attack that broke the image.
        clean, robust: whether the image is classified correctly without an attack, and also after every attack.
        after N: NAME: whether it is classified correctly without an attack and after the attacks 1 to N.
        broken_by: name of the attack that broke it; null where none did.
        clean_margin, margin: probability of the label minus that of the likeliest other class: of the image without an attack,
            and the smallest over this image and all attacks.
        distance: norm of the perturbation that broke it; null where none did.
        sha256: of the adversarial image's float32 pixels; null where no attack broke it.
        group …: its group in each column of groups.
    """
    names = [attack.name for attack in report.attacks]
    broken = evaluation.broken_by != UNBROKEN
    columns: dict[str, Sequence[Any]] = {
        "image": rows.tolist(),
        "label": evaluation.labels.tolist(),
        "class": [report.dataset.class_names[label] for label in evaluation.labels],
        "clean_prediction": evaluation.clean.tolist(),
        "attacked_prediction": evaluation.attacked.tolist(),
        "clean": evaluation.correct.tolist(),
        "robust": evaluation.robust.tolist(),
        **{name: evaluation.correct_after(number).tolist() for number, name in enumerate(_attack_columns(report))},
        "broken_by": [names[number] if number != UNBROKEN else None for number in evaluation.broken_by],
        "clean_margin": evaluation.clean_margin.tolist(),
        "margin": evaluation.margin.tolist(),
        "distance": [
            value if is_broken else None for value, is_broken in zip(evaluation.distance.tolist(), broken, strict=True)
        ],
        "sha256": [digest or None for digest in evaluation.sha256],
    }
    return columns | {f"group {column}": list(values) for column, values in groups.items()}


def _attack_columns(report: AuditReport) -> list[str]:
    """Return a column name for each attack; the number distinguishes equal attacks."""
    return [f"after {number}: {attack.name}" for number, attack in enumerate(report.attacks, 1)]


def build_frame(columns: Columns) -> Any:  # noqa: ANN401 - of pandas or polars
    """Return the columns as a data frame of pandas, or of polars where pandas is not installed. Raises: InvalidSpec."""
    try:
        import pandas as pd

        return pd.DataFrame(dict(columns))
    except ModuleNotFoundError:
        pass
    try:
        import polars as pl
    except ModuleNotFoundError:
        raise InvalidSpec(
            "A data frame needs pandas or polars, and neither is installed. Run pip install 'faal[frames]'."
        ) from None
    return pl.DataFrame(dict(columns))


def write_columns(path: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
    """Write the columns to `path` as Parquet, or as CSV where the name ends in .csv.

    In a CSV file an apostrophe comes before a text that a spreadsheet would compute.

    Args:
        metadata: facts that the file carries with it in the metadata key `faal`, as JSON; CSV files have no place for them.
    Raises: InvalidSpec for an unsupported ending, and if pyarrow is missing; OSError.
    """
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(map(_escape, columns))
            writer.writerows(zip(*(map(_escape, values) for values in columns.values()), strict=True))
        return
    if path.suffix != ".parquet":
        raise InvalidSpec(f"{path.name} must end in .parquet or .csv.")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InvalidSpec(
            "Parquet files need pyarrow, which is not installed. Run pip install 'faal[frames]', or write a .csv file."
        ) from None
    types = {name: pa.type_for_alias(alias) for name, alias in _NULLABLE.items()}
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata({"faal": json.dumps(metadata)}), path)


def _escape(value: Any) -> Any:  # noqa: ANN401 - a cell
    """Return a text that a spreadsheet would compute with an apostrophe before it; another value unchanged."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
