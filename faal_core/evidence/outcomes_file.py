"""Read the outcomes of a pack, whose file may come from a stranger, and check that they can be those of an audit."""

import re
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from faal_core.errors import InvalidSpec
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import UNBROKEN
from faal_core.results.outcomes import Outcomes, read_outcomes
from faal_core.specs import MAX_CLASSES
from faal_core.specs.class_names import MAX_COLUMNS, MAX_GROUPS

MAX_IMAGES = 1_000_000
_MOST_CELLS = 16_000_000  # values as Python objects: less than 2 GB
_TYPES = frozenset({"int64", "double", "bool", "string"})
# A page of these takes at most some 20 times its size in the file; other methods compress a thousandfold.
_CODECS = frozenset({"SNAPPY", "UNCOMPRESSED"})
_LONGEST_TEXT = 512  # bytes of a name of 100 characters, of an attack, or of a digest
_DIGEST = re.compile("[0-9a-f]{64}")
_ROUNDING = 1e-4  # relative excess of a perturbation's norm, in float32


def read_outcomes_file(content: bytes, name: str, report: AuditReport) -> Outcomes:
    """Return the outcomes in a Parquet file.

    Raises: PackRefused if they are not those of the report, contradict themselves, or would take much memory; InvalidSpec if
        pyarrow is missing.
    """
    if not report.outcomes_sha256:
        raise PackRefused("The report names no outcomes: it is older than they are. Audit again to make a pack.")
    _require_pyarrow()
    columns = _check_table(content, name, report.robust.mean.images)
    table = _read_table(content, name)
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        try:
            outcomes = read_outcomes(path, report)
        except InvalidSpec:
            raise PackRefused(f"{name} does not hold the outcomes of the report.") from None
    _check_names(outcomes, report, name)
    _check_rows(outcomes, report, name)
    expected = {column: list(values) for column, values in outcomes.columns(report).items()}
    if columns != list(expected) or table != expected:
        raise PackRefused(f"{name} has columns that do not follow from its outcomes.")
    return outcomes


def _require_pyarrow() -> None:
    """Check that pyarrow is installed. Raises: InvalidSpec."""
    try:
        import pyarrow as pa  # noqa: F401
    except ModuleNotFoundError:
        raise InvalidSpec("A pack needs pyarrow, which is not installed. Run pip install 'faal[evidence]'.") from None


def _check_table(content: bytes, name: str, images: int) -> list[str]:
    """Check size, types and compression before a row is decoded; return the names of the columns. Raises: PackRefused."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        schema, meta = pq.read_schema(BytesIO(content)), pq.read_metadata(BytesIO(content))
        groups = [meta.row_group(k) for k in range(meta.num_row_groups)]
        codecs = {group.column(i).compression for group in groups for i in range(group.num_columns)}
        is_plain = codecs <= _CODECS and {str(kind) for kind in schema.types} <= _TYPES
        is_small = 0 < images <= MAX_IMAGES and len(schema) * images <= _MOST_CELLS
        if meta.num_rows != images or not is_small or not is_plain:
            raise PackRefused(f"{name} is not written as FAAL writes outcomes, or has more than {MAX_IMAGES:,} images.")
        texts = [column.name for column in schema if str(column.type) == "string"]
        for column in texts:  # as dictionaries: one long value for many rows takes memory once
            table = pq.ParquetFile(BytesIO(content), read_dictionary=texts).read([column], use_threads=False)
            for chunk in table.column(0).chunks:
                values = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
                if (pc.max(pc.binary_length(values)).as_py() or 0) > _LONGEST_TEXT:
                    raise PackRefused(f"{name} has a text of more than {_LONGEST_TEXT} bytes.")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise PackRefused(f"{name} is damaged: {str(error)[:200]}.") from None
    return list(schema.names)


def _read_table(content: bytes, name: str) -> dict[str, list[object]]:
    """Return the columns as lists. Raises: PackRefused if they cannot be decoded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns: dict[str, list[object]] = pq.ParquetFile(BytesIO(content)).read(use_threads=False).to_pydict()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PackRefused(f"{name} is damaged: {str(error)[:200]}.") from None
    return columns


def _check_names(outcomes: Outcomes, report: AuditReport, name: str) -> None:
    """Check that there are as few classes and groups as FAAL audits: intervals of many more take long. Raises: PackRefused."""
    columns = outcomes.groups.values()
    many_groups = len(columns) > MAX_COLUMNS or any(len(set(values)) > MAX_GROUPS for values in columns)
    if many_groups or len(report.dataset.class_names) > MAX_CLASSES:
        raise PackRefused(f"{name} has more groups, or the report more classes, than FAAL audits.")


def _check_rows(outcomes: Outcomes, report: AuditReport, name: str) -> None:
    """Check that the values are in their ranges and agree with each other. Raises: PackRefused."""
    one, classes = outcomes.evaluation, len(report.dataset.class_names)
    broken = one.broken_by != UNBROKEN
    margins = np.stack([one.clean_margin, one.margin])
    largest = report.spec.threat.epsilon * (1 + _ROUNDING)
    rules = {
        "a class that the data set does not have": all(
            ((values >= 0) & (values < classes)).all() for values in (one.labels, one.clean, one.attacked)
        ),
        "an attack that the audit does not have": (
            (one.broken_by >= UNBROKEN) & (one.broken_by < len(report.attacks))
        ).all(),
        "an image twice, or a negative row": len(np.unique(outcomes.rows)) == len(outcomes.rows)
        and (outcomes.rows >= 0).all(),
        "a broken image that is misclassified without an attack, or classified correctly after it": (
            (one.clean == one.labels) & (one.attacked != one.labels)
        )[broken].all(),
        "another prediction for an image that no attack broke": (one.clean == one.attacked)[~broken].all(),
        "a margin outside of [−1, 1]": (np.abs(margins) <= 1 + _ROUNDING).all(),
        "a perturbation beyond the radius": ((one.distance >= 0) & (one.distance <= largest)).all()
        and not one.distance[~broken].any(),
        "a digest that is missing or malformed": all(
            bool(_DIGEST.fullmatch(digest)) if is_broken else digest == ""
            for digest, is_broken in zip(one.sha256, broken.tolist(), strict=True)
        ),
    }
    if faults := [fault for fault, holds in rules.items() if not holds]:
        raise PackRefused(f"{name} contradicts itself: it has {faults[0]}.")
