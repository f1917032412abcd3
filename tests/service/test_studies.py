"""A study with a real service and worker: its table is the library's of the four reports; cancellation ends the other jobs."""

import pytest

from faal_client import Client
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table import tabulate_methods
from tests.service.processes import JOB_SECONDS
from tests.service.small_jobs import UNBOUNDED, store

METHODS = [{"type": "faal", "class_offsets": False}, {"type": "uniform"}]
SETTINGS = {
    "threat": {"epsilon": "8/255"},
    "training": {"learning_rates": [0.01], "batch_size": 240, "attack": {"steps": 1}, **UNBOUNDED},
    "audit": {"attacks": [{"type": "pgd", "steps": 2}], "images": 30},
}
LONG = SETTINGS | {"training": SETTINGS["training"] | {"learning_rates": [0.01] * 500}}


@pytest.mark.slow
def test_a_study_runs_to_its_table_and_another_is_cancelled(open_site, weights_file) -> None:
    """Two methods with two seeds give the library's table; a study that is cancelled while its first job runs ends."""
    site = open_site()
    model, dataset = store(site, weights_file)
    _, http = site.api()
    site.worker()
    with Client(str(http.base_url)) as client:
        study = client.create_study("rivals", model, dataset, SETTINGS, methods=METHODS, seeds=[0, 1])
        assert client.wait_for_study(study.id, timeout=JOB_SECONDS).states == {"succeeded": 4}
        reports = [client.report(run.job) for run in study.runs]
        table = client.study_table(study.id)
        assert all(isinstance(report, FinetuneReport) for report in reports)
        assert table == tabulate_methods(reports).model_copy(update={"created_at": table.created_at})
        assert sorted(len(row.seeds) for row in table.methods) == [2, 2]
        assert {seed.job_id for row in table.methods for seed in row.seeds} == {run.job for run in study.runs}
        long = client.create_study("long", model, dataset, LONG, methods=METHODS, seeds=[0, 1])
        site.wait_until_running(long.runs[0].job, epochs=1)
        client.cancel_study(long.id)
        assert client.wait_for_study(long.id, timeout=JOB_SECONDS).states == {"cancelled": 4}
