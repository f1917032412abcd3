"""Runs in MLflow: the real client reads back from a database, and from a server, all that was exported."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from faal_core.errors import InvalidSpec
from faal_core.exports.metric_keys import any_script_keys
from faal_core.exports.metrics import audit_metrics, finetune_metrics
from faal_core.exports.mlflow import log_report
from faal_core.reports.files import save
from faal_core.threat_model import ThreatModel
from tests.hostile_names import HOSTILE_NAMES
from tests.sample_reports import sample_audit, sample_finetune, sample_outcomes

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # MLflow calls SQLAlchemy so; its own are FutureWarnings
STARTS = 120  # seconds that a server may take on a busy machine


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a database of MLflow; making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def uri(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of the database, in a folder of the test for the files of runs."""
    monkeypatch.chdir(tmp_path)
    return database


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server process of MLflow on this machine, with a database.

    The server needs more packages than the client, so it is installed from an index into an environment of its own.
    """
    folder = tmp_path_factory.mktemp("server")
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    python = folder / "environment/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"mlflow=={mlflow.__version__}"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTS
        while not _answers(f"{address}/health"):
            is_starting = process.poll() is None and time.monotonic() < deadline
            assert is_starting, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False


def check_run(uri: str, run_id: str, folder: Path) -> None:
    """Check that a run has all of the sample audit."""
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    report = sample_audit(HOSTILE_NAMES, [0.5] * len(HOSTILE_NAMES))
    metrics = audit_metrics(report, any_script_keys)
    assert run.data.metrics == {"/".join(path): value for path, value in metrics.items()}
    assert run.data.params["classifier_sha256"] == report.classifier.sha256
    assert (run.data.params["norm"], run.data.params["epsilon"]) == ("linf", "0.1")
    assert run.data.tags["faal.first_look"] == "true"
    assert run.data.tags["mlflow.note.content"].startswith("Accuracy under the preset pgd-20 is")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "fashion-resnet")
    stored = Path(client.download_artifacts(run_id, "", str(folder)))
    assert (stored / "report.json").read_text("utf-8") == report.model_dump_json(indent=2)
    assert (stored / "report.html").is_file()
    lines = (stored / "classes.csv").read_text("utf-8").splitlines()
    assert len(lines) == len(HOSTILE_NAMES) + 1
    assert lines[0].startswith("metric_key,class,images,")


def test_a_run_has_numbers_settings_and_files(uri: str, tmp_path: Path):
    """An audit with hostile names becomes one run, and the names of all its metrics are legal."""
    report = sample_audit(HOSTILE_NAMES, [0.5] * len(HOSTILE_NAMES))
    for path in audit_metrics(report, any_script_keys):
        _validate_metric_name("/".join(path))
    (tmp_path / "down").mkdir()
    check_run(uri, log_report(report, tracking_uri=uri), tmp_path / "down")


def test_the_callers_run_stays_open(uri: str, monkeypatch: pytest.MonkeyPatch):
    """The export makes a run beside the one that the caller has open, which stays open and gets none of the numbers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with mlflow.start_run() as own:
        run_id = log_report(sample_audit(), tracking_uri=uri)
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == own.info.run_id != run_id
    assert MlflowClient(uri).get_run(own.info.run_id).data.metrics == {}


def test_radii_are_steps(uri: str):
    """Several radii are the steps of one run, smallest first, with the radius as a metric."""
    report = sample_audit()
    spec = report.spec.model_copy(update={"threat": ThreatModel(epsilon=0.05)})
    weaker = sample_audit(robust=(0.9,) * 10).model_copy(update={"spec": spec})
    run_id = log_report(report, weaker, tracking_uri=uri, run_name="curve")
    history = {
        name: [(one.step, one.value) for one in MlflowClient(uri).get_metric_history(run_id, name)]
        for name in ("epsilon", "robust/worst")
    }
    assert history == {
        "epsilon": [(0, 0.05), (1, 0.1)],
        "robust/worst": [(0, weaker.robust.worst.value), (1, report.robust.worst.value)],
    }


def test_a_fine_tuning_has_its_epochs(uri: str):
    """A fine-tuning's run has the audit after it, the changes, and the loss of each epoch."""
    report = sample_finetune()
    run_id = log_report(report, tracking_uri=uri)
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    expected = {"/".join(path): value for path, value in finetune_metrics(report, any_script_keys).items()}
    assert expected.items() <= run.data.metrics.items()
    assert run.data.params["method.type"] == "faal"
    assert run.data.tags["faal.outcome"] == report.outcome
    losses = [(one.step, one.value) for one in client.get_metric_history(run_id, "training/loss")]
    assert losses == [(row.epoch, row.loss) for row in report.epochs]


def test_many_classes_are_sent_in_parts(uri: str, monkeypatch: pytest.MonkeyPatch):
    """A report of 200 classes has more metrics than the 1,000 that a server takes at once, and all are stored."""
    sizes = []
    send = MlflowClient.log_batch

    def record(client: MlflowClient, run_id: str, metrics: Sequence[object] = (), **others: Any) -> None:
        sizes.append(len(metrics))
        send(client, run_id, metrics=metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", record)
    report = sample_audit(tuple(f"class {number}" for number in range(200)), [0.5] * 200, images=3)
    run = MlflowClient(uri).get_run(log_report(report, tracking_uri=uri))
    assert len(run.data.metrics) == len(audit_metrics(report, any_script_keys)) == sum(sizes)
    assert max(sizes) == 1000


def test_a_model_version_gets_the_main_numbers(uri: str):
    """The tags of a registered model's version have the radius, the worst class with its bound, and the run."""
    client = MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("signs")
    version = client.create_model_version("signs", "file:///nowhere").version
    report = sample_audit()
    run_id = log_report(report, tracking_uri=uri, model_version=f"signs/{version}")
    tags = client.get_model_version("signs", version).tags
    assert (tags["faal.run_id"], tags["faal.epsilon"], tags["faal.norm"]) == (run_id, "0.1", "linf")
    assert float(tags["faal.robust_worst_low"]) == pytest.approx(report.robust.worst.low, abs=1e-4)
    assert tags["faal.worst_class"] == "shirt"


def test_a_refusal_ends_the_run_as_failed(uri: str):
    """A version that does not exist is an error that names the database, and the run is marked as failed."""
    with pytest.raises(ConnectionError, match=r"MLflow at sqlite.* did not store the report: .*unknown"):
        log_report(sample_audit(), tracking_uri=uri, experiment="refused", model_version="unknown/1")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("refused")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def test_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch):
    """The error for a server that cannot be reached names it without the user and the password of its address."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionError, match=r"^MLflow at http://127\.0\.0\.1:9 did not") as failure:
        log_report(sample_audit(), tracking_uri="http://me:secret@127.0.0.1:9")
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("version", ["signs", "signs/latest", "/1", "models:/signs"])
def test_a_malformed_version_is_refused_before_anything_is_stored(version: str):
    """A version is a name and a number; otherwise no run is made."""
    with pytest.raises(InvalidSpec, match="NAME/VERSION"):
        log_report(sample_audit(), tracking_uri="http://127.0.0.1:1", model_version=version)


def test_foreign_outcomes_are_refused_before_anything_is_stored(tmp_path: Path):
    """If the outcomes beside a report are of another audit, no server is asked."""
    save(sample_outcomes()[0], tmp_path, sample_outcomes(seed=2)[1])
    with pytest.raises(InvalidSpec, match="does not hold the outcomes of this report"):
        log_report(tmp_path / "report.json", tracking_uri="http://127.0.0.1:9")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without MLflow the message names the extra, and without a package of its databases that package."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(InvalidSpec, match=r"pip install 'faal\[mlflow\]'"):
        log_report(sample_audit(), tracking_uri="sqlite:///x.db")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_has_the_run(server: str, tmp_path: Path):
    """A server process stores the run, reached by HTTP, with its files."""
    report = sample_audit(HOSTILE_NAMES, [0.5] * len(HOSTILE_NAMES))
    run_id = log_report(report, tracking_uri=server, experiment="by server")
    check_run(server, run_id, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["kind"] == "audit"
