"""A helper rebuilds the work of a shared audit or validation, and computes what the job's own process computes."""

from datetime import timedelta

import pytest
import torch

from faal_core import datasets, networks, weights
from faal_core.auditing.batches import BatchWork
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.mean_of_draws import MeanOfDraws
from faal_core.auditing.sources import Source, prepare_sources
from faal_core.results.schedule import Batch
from faal_core.specs import ClassifierSpec, PgdSpec, SourceNetwork, TransferSpec
from faal_core.threat_model import ThreatModel
from jobs import artifacts, model_registry, queries
from tests.job_steps import add_ready_model
from worker.inputs import JobInputs
from worker.shared_work import SharedWork, WorkDiffers, describe_work, identify_work, rebuild_work

CPU = torch.device("cpu")
SPEC = ClassifierSpec(architecture="small_resnet", num_classes=10, mean=(0.5,), std=(0.5,))
BATCH = Batch(0, 0, (1, 4, 5))


@pytest.fixture
def classifier():
    """Return a network whose weights are not those of the job's model."""
    torch.manual_seed(0)
    return networks.build(SPEC).eval()


@pytest.fixture
def inputs(settings, sessions, storage, queued_job, tmp_path, monkeypatch) -> JobInputs:
    """Return the inputs of a job of the bundled images."""
    monkeypatch.setattr("worker.inputs.open_storage", lambda *_, **__: storage)
    with sessions() as session:
        return JobInputs(queries.find_job(session, queued_job), settings, sessions, tmp_path)


def make_work(classifier, part: str, rows: list[int] | None) -> BatchWork:
    """Return the work of the job's own process on some rows of a part of the bundled images."""
    data = datasets.load("fashion-mnist-subset", part)
    data = data if rows is None else data.take(torch.tensor(range(100, 200))).take(torch.tensor(rows))
    evaluator = Evaluator(classifier, data, device=CPU, batch_size=8, seed=3)
    return BatchWork(evaluator, ThreatModel(epsilon=0.1), (PgdSpec(steps=2),))


def describe(work: BatchWork, storage, tmp_path) -> SharedWork:
    """Return the description that another worker reads, with the weights in storage."""
    path = tmp_path / "weights.safetensors"
    weights.write_classifier(path, work.evaluator.classifier)
    stored = storage.put_file(path, media_type="application/octet-stream").sha256
    shared = describe_work(work, classifier=work.evaluator.classifier.spec, weights_file=stored, threads=1)
    return SharedWork.model_validate_json(shared.model_dump_json())


@pytest.mark.parametrize(("part", "rows"), [("test", None), ("train", [7, 2, 3, 50, 11, 90])])
@pytest.mark.parametrize("draws", [None, 2])
def test_a_helper_computes_the_same(classifier, inputs, storage, tmp_path, part, rows, draws) -> None:
    """Predictions and attacks of all images, of rows of the training images and of the mean of draws have equal results."""
    work = make_work(classifier if draws is None else MeanOfDraws(classifier, draws).eval(), part, rows)
    rebuilt = rebuild_work(describe(work, storage, tmp_path), inputs)
    assert rebuilt.evaluator.data.sha256 == work.evaluator.data.sha256
    own, its = (one.compute(BATCH).result.model_dump(exclude={"seconds"}) for one in (work, rebuilt))
    assert own == its
    assert identify_work(rebuilt, "e") == identify_work(work, "e")
    other = make_work(MeanOfDraws(classifier, 3), part, rows)
    assert identify_work(other, "e") != identify_work(work, "e")


@pytest.mark.parametrize("is_own_model", [True, False])
def test_a_helper_follows_the_gradients_of_models(classifier, inputs, storage, tmp_path, is_own_model) -> None:
    """A helper has the source of a transfer attack: the job's model or another one of its owner. It refuses a deleted one.

    A model with the same weights that is added after the job does not count. The job's model may have no digest: an earlier
    version checked it.
    """
    given = Source("given", networks.build(SPEC).eval())
    files = []
    for network in (classifier, given.classifier):
        weights.write_classifier(tmp_path / "network.safetensors", network)
        files.append(storage.put_file(tmp_path / "network.safetensors", media_type="application/octet-stream"))
    other = add_ready_model(inputs.sessions, name="old")
    later = add_ready_model(inputs.sessions, name="later", weights_sha256=given.network.sha256)
    with inputs.sessions.begin() as session:
        for stored in files:
            artifacts.record_artifact(session, stored)
        models = [model_registry.find_model(session, model_id) for model_id in (inputs.job.model_id, other)]
        for model, is_source in zip(models, (is_own_model, not is_own_model), strict=True):
            model.spec, model.created_at = SPEC.model_dump(mode="json"), inputs.job.created_at
            model.sha256 = files[is_source].sha256
            model.weights_sha256 = given.network.sha256 if is_source else None
        model_registry.find_model(session, later).created_at = inputs.job.created_at + timedelta(seconds=1)
    data = datasets.load("fashion-mnist-subset", "test")
    sources = prepare_sources([given], data, CPU)
    evaluator = Evaluator(classifier, data, device=CPU, batch_size=8, seed=3, sources=sources)
    attack = TransferSpec(source=given.network, iterations=2)
    work = BatchWork(evaluator, ThreatModel(epsilon=0.1), (attack,))
    shared = describe(work, storage, tmp_path)
    own, its = (
        one.compute(BATCH).result.model_dump(exclude={"seconds"}) for one in (work, rebuild_work(shared, inputs))
    )
    assert own == its
    other = attack.model_copy(update={"source": SourceNetwork(name="other", sha256="0" * 64)})
    with pytest.raises(WorkDiffers):
        rebuild_work(shared.model_copy(update={"attacks": (other,)}), inputs)


@pytest.mark.parametrize("changed", ["weights_sha256", "data_sha256", "sample"])
def test_a_helper_refuses_other_work(classifier, inputs, storage, tmp_path, changed) -> None:
    """A helper does not compute with other weights, other images or a network with other outputs."""
    shared = describe(make_work(classifier, "test", None), storage, tmp_path)
    wrong = tuple(value + 1 for value in shared.sample) if changed == "sample" else "0" * 64
    with pytest.raises(WorkDiffers):
        rebuild_work(shared.model_copy(update={changed: wrong}), inputs)
