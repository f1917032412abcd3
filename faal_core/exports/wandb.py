"""Export a report to Weights & Biases: a run with settings, numbers, a table of classes and an artifact."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from faal_core.exports.classes import list_columns
from faal_core.exports.facts import SourceReport, list_facts, list_states
from faal_core.exports.metric_keys import ascii_keys
from faal_core.exports.metrics import Metrics, audit_metrics, epoch_metrics, finetune_metrics
from faal_core.exports.packages import import_package
from faal_core.exports.stored_report import Source, read_series, write_files
from faal_core.reports.text import verdict
from faal_core.results.documents import AuditReport

EXTRA = "wandb"
NO_RECORDS = MappingProxyType(
    {
        "console": "off",
        "disable_code": True,
        "disable_git": True,
        "x_disable_machine_info": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
    }
)
"""Settings of a run that records nothing of this machine: it is not the one that computed the report."""


def log_report(*reports: Source, project: str, entity: str | None = None, run_name: str | None = None) -> str:
    """Store a report as a run of Weights & Biases; return the run's address, or its folder in offline mode.

    Metrics have names such as `robust_worst` and `robust_class_shirt`; `robust_low_…` and `robust_high_…` are the bounds. The
    metrics of a fine-tuning are those of the audit after the training. `before_…` and `change_…` have the audit before and the
    changes. Several audits that differ in the radius alone become the steps of one run, drawn over the metric `epsilon`.

    The run records nothing of this machine, such as its console, its name, its packages or a Git repository.

    Args:
        reports: reports, or paths of `report.json` files. `outcomes.parquet` beside such a file becomes part of the artifact.
        project: name of the project.
        entity: user or team that the project belongs to; the account's default when absent.
        run_name: name of the run; that of the classifier when absent.

    Raises:
        InvalidSpec: if the reports cannot be exported together, the outcomes beside one are of another audit, or wandb is not
            installed.
        ConnectionError: if the service cannot be reached or refuses.
        OSError: if a file cannot be read.
    """
    series = read_series(reports)
    listed = [one.report for one in series]
    wandb = import_package("wandb", EXTRA)
    facts = list_facts(listed)
    columns = list_columns(listed, ascii_keys)
    (name,) = ascii_keys([f"faal report {facts['classifier']}"])
    artifact = wandb.Artifact(name, type="faal-report", metadata={**facts, **list_states(listed)})
    with TemporaryDirectory() as folder:
        write_files(series, columns, Path(folder))
        artifact.add_dir(folder)
    with (
        _named_errors(),
        wandb.init(
            project=project,
            entity=entity,
            name=run_name or facts["classifier"],
            job_type="faal",
            notes="\n".join(verdict(listed[-1])),
            config=facts,
            reinit="create_new",
            settings=wandb.Settings(quiet=True, **NO_RECORDS),
        ) as run,
    ):
        *steps, last = _list_steps(listed)
        _draw_over_radius_and_epoch(run)
        for numbers in steps:
            run.log(numbers)
        table = wandb.Table(columns=list(columns), data=[list(row) for row in zip(*columns.values(), strict=True)])
        run.log({**last, "classes": table})
        run.summary.update(list_states(listed))
        run.log_artifact(artifact)
        return str(Path(run.dir).parent if run.offline else run.url)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn the package's errors into one that a command can print. Raises: ConnectionError."""
    errors = import_package("wandb.errors", EXTRA)
    try:
        yield
    except errors.Error as error:
        raise ConnectionError(f"Weights & Biases refused the export: {error}") from error


def _draw_over_radius_and_epoch(run: Any) -> None:  # noqa: ANN401 - a run of wandb
    """Make the radius the horizontal axis of all charts, and the epoch that of the training's."""
    for axis, names in {"training_epoch": "training_*", "epsilon": "*"}.items():
        run.define_metric(axis)
        run.define_metric(names, step_metric=axis)


def _list_steps(reports: Sequence[SourceReport]) -> Iterator[dict[str, float]]:
    """Yield the numbers of each epoch of a fine-tuning, then those of each report."""
    for report in reports:
        if isinstance(report, AuditReport):
            yield _join(audit_metrics(report, ascii_keys))
            continue
        for epoch, numbers in epoch_metrics(report):
            yield {"training_epoch": epoch, **_join(numbers)}
        yield _join(finetune_metrics(report, ascii_keys))


def _join(metrics: Metrics) -> dict[str, float]:
    """Return the metrics with names that Weights & Biases can sort and filter by: letters, digits and underscores."""
    return {"_".join(path): value for path, value in metrics.items()}
