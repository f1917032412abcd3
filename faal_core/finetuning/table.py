"""Tabulate fine-tunings in Python: results of `finetune`, or reports in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faal_core.errors import InvalidSpec
from faal_core.finetuning.result import FinetuneResult
from faal_core.reports.shown_report import ShownReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.frames import build_frame, method_columns
from faal_core.results.method_table import tabulate_methods
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.reading import find_report, read_report_file


class FinetuningTable(ShownReport[MethodTable]):
    """Holds a table of methods, the most robust worst class first; `report` also has the given model and every seed."""

    def to_frame(self) -> Any:  # noqa: ANN401 - of pandas or polars
        """Return one row for each fine-tuning as a data frame of pandas, or of polars without pandas."""
        return build_frame(method_columns(self.report))


def tabulate_finetunings(finetunings: Sequence[FinetuneResult | FinetuneReport | str | Path]) -> FinetuningTable:
    """Return a table of methods: fine-tunings of one model, whose methods and seeds differ.

    Each method has one row, with the mean, the lowest and the highest seed of its figures, and their changes against the given
    model. Fine-tunings belong to one method if their method and training settings differ in the seed alone.

    Args:
        finetunings: results of `finetune`, their reports, or paths of a report.json or of the folder that has it.
    Raises: InvalidSpec without a fine-tuning, if a seed occurs twice in a method, if the given weights, the images, the radius,
        the attacks or the confidence differ, or if a file is no report of a fine-tuning; OSError.
    """
    return FinetuningTable(tabulate_methods([_load(one) for one in finetunings]))


def _load(finetuning: object) -> FinetuneReport:
    if isinstance(finetuning, FinetuneResult):
        return finetuning.report
    if isinstance(finetuning, FinetuneReport):
        return finetuning
    if isinstance(finetuning, str | Path):
        report = read_report_file(Path(finetuning))
        if isinstance(report, FinetuneReport):
            return report
        raise InvalidSpec(f"{find_report(Path(finetuning))} is a {report.kind}, not the report of a fine-tuning.")
    raise InvalidSpec(
        f"A {type(finetuning).__name__} is not the result of a fine-tuning. Pass the result of `finetune`, or the path of a "
        "report.json."
    )
