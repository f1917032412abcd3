"""Results as columns and as data frames: one row per class, one row per image."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faal_core.errors import InvalidSpec
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import Comparison
from faal_core.results.method_table_documents import MethodTable

Columns = Mapping[str, Sequence[Any]]
# Arrow's types of columns in which all values may be null
_NULLABLE = {"attack": "int64", "broken_by": "string", "distance": "double", "sha256": "string"}
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
    for kind in ("clean", "robust", *(["certified"] if rows[0].certified else [])):
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


def method_columns(table: MethodTable) -> Columns:
    """Return the rates of each fine-tuning in a table of methods: one row per method and seed, in the order of the table."""
    rows = [(method, seed) for method in table.methods for seed in method.seeds]
    return {
        "method": [method.name for method, _ in rows],
        "seed": [seed.seed for _, seed in rows],
        "outcome": [seed.outcome for _, seed in rows],
        "clean_mean": [seed.clean.mean.rate for _, seed in rows],
        "robust_mean": [seed.robust.mean.rate for _, seed in rows],
        "worst_class": [seed.robust.worst_class for _, seed in rows],
        "robust_worst": [seed.robust.worst.value for _, seed in rows],
        "robust_worst_low": [seed.robust.worst.low for _, seed in rows],
        "robust_worst_high": [seed.robust.worst.high for _, seed in rows],
        "minutes": [seed.minutes for _, seed in rows],
    }


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
            "Parquet files need pyarrow, which is not installed. Run pip install 'faal[torch]', or write a .csv file."
        ) from None
    types = {name: pa.type_for_alias(alias) for name, alias in _NULLABLE.items()}
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata({"faal": json.dumps(metadata)}), path)


def _escape(value: Any) -> Any:  # noqa: ANN401 - a cell
    """Return a text that a spreadsheet would compute with an apostrophe before it; another value unchanged."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
