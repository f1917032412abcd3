"""Export a report to MLflow: a run with parameters, metrics, tags and files, and the tags of a registered model version."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faal_core.errors import InvalidSpec
from faal_core.exports.classes import list_columns
from faal_core.exports.facts import SourceReport, list_facts, list_states
from faal_core.exports.markdown import escape
from faal_core.exports.metric_keys import any_script_keys
from faal_core.exports.metrics import Metrics, audit_metrics, epoch_metrics, finetune_metrics
from faal_core.exports.packages import import_package
from faal_core.exports.stored_report import Source, read_series, write_files
from faal_core.reports.text import verdict
from faal_core.results.documents import AuditReport
from faal_core.results.reading import newest_audit

EXTRA = "mlflow"
MAX_METRICS = 1000  # in one request, MLflow's limit
MAX_PARAMETERS = 100  # in one request, MLflow's limit
MAX_PARAMETER_LENGTH = 6000  # characters, MLflow's limit
MAX_NAME_LENGTH = 250  # characters of a run's name in MLflow's databases
PREFIX = "faal."  # begins the names of tags, among which MLflow and its users have their own
_USER = re.compile(r"(?<=//)[^/@\s]+@")  # name and password in an address


def log_report(
    *reports: Source,
    tracking_uri: str,
    experiment: str = "faal",
    run_name: str | None = None,
    model_version: str | None = None,
) -> str:
    """Store a report as a run of MLflow, and return the run's id.

    Metrics have names such as `robust/worst` and `robust/class/shirt`; `robust_low/…` and `robust_high/…` are the bounds. The
    metrics of a fine-tuning are those of the audit after the training. `before/…` and `change/…` have the audit before and the
    changes. Several audits that differ in the radius alone become the steps of one run, and the metric `epsilon` gives each
    step's radius.

    Args:
        reports: reports, or paths of `report.json` files. `outcomes.parquet` beside such a file is stored with the run.
        tracking_uri: address of the MLflow server, or a database such as `sqlite:///mlflow.db`.
        experiment: name of the experiment; created where it is missing.
        run_name: name of the run; that of the classifier when absent.
        model_version: `NAME/VERSION` of a registered model, which gets the main numbers as tags.

    Raises:
        InvalidSpec: if the reports cannot be exported together, the outcomes beside one are of another audit, `model_version` is
            malformed or MLflow is not installed.
        ConnectionError: if MLflow cannot be reached or refuses.
        OSError: if a file cannot be read.
    """
    model = _split_version(model_version) if model_version else None
    series = read_series(reports)
    listed = [one.report for one in series]
    tracking = import_package("mlflow.tracking", EXTRA)
    with TemporaryDirectory() as folder:
        write_files(series, list_columns(listed, any_script_keys), Path(folder))
        with _named_errors(tracking_uri):
            client = tracking.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            existing = client.get_experiment_by_name(experiment)
            run = client.create_run(
                existing.experiment_id if existing else client.create_experiment(experiment),
                tags=_list_tags(listed),
                run_name=run_name or str(list_facts(listed)["classifier"])[:MAX_NAME_LENGTH],
            )
            run_id: str = run.info.run_id
            try:
                _log_numbers(client, run_id, listed)
                client.log_artifacts(run_id, folder)
                if model:
                    _tag_version(client, model, run_id, listed)
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
            client.set_terminated(run_id)
    return run_id


def _split_version(text: str) -> tuple[str, str]:
    """Return name and version of `NAME/VERSION` or `models:/NAME/VERSION`. Raises: InvalidSpec."""
    name, _, version = text.removeprefix("models:/").rpartition("/")
    if not (name and version.isdecimal()):
        raise InvalidSpec(f"{text!r} is no version of a registered model. Write NAME/VERSION, such as traffic-signs/3.")
    return name, version


@contextmanager
def _named_errors(tracking_uri: str) -> Iterator[None]:
    """Turn MLflow's errors into one that names the server. Raises: ConnectionError, InvalidSpec."""
    exceptions = import_package("mlflow.exceptions", EXTRA)
    try:
        yield
    except ModuleNotFoundError as missing:  # the extra has MLflow's client alone
        raise InvalidSpec(
            f"MLflow needs {missing.name} for this address, which is not installed. Run pip install mlflow."
        ) from None
    except exceptions.MlflowException as error:
        raise ConnectionError(_USER.sub("", f"MLflow at {tracking_uri} did not store the report: {error}")) from error


def _log_numbers(client: Any, run_id: str, reports: Sequence[SourceReport]) -> None:  # noqa: ANN401 - a client of MLflow
    """Log parameters and metrics, in requests of the sizes that a server takes."""
    entities = import_package("mlflow.entities", EXTRA)
    parameters = [
        entities.Param(name, str(value)[:MAX_PARAMETER_LENGTH]) for name, value in list_facts(reports).items()
    ]
    for start in range(0, len(parameters), MAX_PARAMETERS):
        client.log_batch(run_id, params=parameters[start : start + MAX_PARAMETERS])
    time = int(reports[-1].created_at.timestamp() * 1000)
    metrics = [
        entities.Metric("/".join(path), value, time, step)
        for step, numbers in _list_steps(reports)
        for path, value in numbers.items()
    ]
    for start in range(0, len(metrics), MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS])


def _list_steps(reports: Sequence[SourceReport]) -> Iterator[tuple[int, Metrics]]:
    """Yield the metrics of each radius, smallest first, by the step; of a fine-tuning, also those of each epoch."""
    for step, report in enumerate(reports):
        if isinstance(report, AuditReport):
            yield step, audit_metrics(report, any_script_keys)
        else:
            yield from epoch_metrics(report)
            yield 0, finetune_metrics(report, any_script_keys)


def _list_tags(reports: Sequence[SourceReport]) -> dict[str, str]:
    """Return the run's tags; MLflow shows `mlflow.note.content` as the run's description."""
    note = "\n\n".join(escape(sentence) for sentence in verdict(reports[-1]))
    return {"mlflow.note.content": note, **_prefix(list_states(reports))}


def _tag_version(client: Any, model: tuple[str, str], run_id: str, reports: Sequence[SourceReport]) -> None:  # noqa: ANN401
    """Set the main numbers of the largest radius, the settings they depend on and the run as tags of the model's version."""
    audit = newest_audit(reports[-1])
    facts = list_facts(reports[-1:])
    tags = {
        "run_id": run_id,
        **{
            name: str(facts[name])
            for name in ("norm", "epsilon", "attacks", "dataset", "dataset_sha256", "classifier_sha256")
        },
        "clean_mean": f"{audit.clean.mean.rate:.4f}",
        "robust_mean": f"{audit.robust.mean.rate:.4f}",
        "robust_worst": f"{audit.robust.worst.value:.4f}",
        "robust_worst_low": f"{audit.robust.worst.low:.4f}",
        **list_states(reports[-1:]),
    }
    for name, value in _prefix(tags).items():
        client.set_model_version_tag(*model, name, value)


def _prefix(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"{PREFIX}{name}": value for name, value in tags.items()}
