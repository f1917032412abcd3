"""The checks of a submission: that model, data set and sources of attacks fit one another."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from faal_core.errors import GroupsMissing, InvalidSpec
from faal_core.specs import AuditSpec, SourceNetwork
from faal_core.specs.escalation import list_transfer_attacks
from jobs import control, removal
from jobs.errors import InUse, ModelNotFound
from jobs.states import JobKind, UploadState
from jobs.submission import require_fit
from jobs.tables import Dataset, Job
from tests.job_steps import SPEC, add_ready_model, submit_job

THREE_CLASSES = SPEC.model_copy(update={"num_classes": 3, "class_names": ("0", "1", "2")})
SUMMARY = {"shape": [3, 32, 32], "class_names": ["a", "b"], "images": {"test": 10}}


def spec(classes: int, channels: int, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the fields of a stored classifier of that many classes and channels."""
    return {"num_classes": classes, "mean": [0.5] * channels, "class_names": names}


def test_what_fits_is_let_through() -> None:
    """Equal numbers of classes and channels fit, by the catalog or by the summary of an upload."""
    require_fit(spec(10, 1), "fashion-mnist-subset", None, training=True)
    require_fit(spec(2, 3), "dataset_1", SUMMARY, training=False)
    require_fit(spec(2, 3), "dataset_1", SUMMARY | {"images": {"test": 10, "train": 10}}, training=True)


def test_a_data_set_may_lack_classes() -> None:
    """A data set of some of the classifier's classes fits if names, or numbers as names, identify them."""
    fields = spec(3, 3, ("A", "B", "c"))
    require_fit(fields, "dataset_1", SUMMARY, training=False)
    require_fit(spec(3, 3), "dataset_1", SUMMARY | {"class_names": ["0", "2"]}, training=False)
    with pytest.raises(InvalidSpec, match=r"2 classes .* has 3"):
        require_fit(spec(2, 3), "dataset_1", SUMMARY | {"class_names": ["0", "1", "2"]}, training=False)


def test_long_numbers_as_names_are_compared() -> None:
    """A stored classifier with a class name of 5,000 digits is compared like any other."""
    fields = spec(3, 3, ("1" * 5000, "a", "b"))
    require_fit(fields, "dataset_1", SUMMARY, training=False)


@pytest.mark.parametrize(
    ("classes", "channels", "dataset", "training", "message"),
    [
        (43, 1, "fashion-mnist-subset", False, "43 classes .* fashion-mnist-subset has 10"),
        (10, 3, "fashion-mnist-subset", False, "3 channels .* have 1"),
        (3, 3, "dataset_1", False, "3 classes .* dataset_1 has 2"),
        (2, 1, "dataset_1", False, "1 channels .* have 3"),
        (2, 3, "dataset_1", True, "no training part"),
    ],
)
def test_what_cannot_fit_is_refused(classes: int, channels: int, dataset: str, training: bool, message: str) -> None:
    """Other classes, other channels and a missing training part are refused with both sides named."""
    summary = SUMMARY if dataset == "dataset_1" else None
    with pytest.raises(InvalidSpec, match=message):
        require_fit(spec(classes, channels), dataset, summary, training=training)


def submit_audit(session: Session, model_id: str, **fields: Any) -> Job:
    """Submit an audit of Ann's model with these other fields."""
    fixed = {
        "kind": JobKind.AUDIT,
        "dataset": "fashion-mnist-subset",
        "spec": {"threat": {"epsilon": 0.1}},
        "owner": "ann",
    }
    return submit_job(session, model_id=model_id, **(fixed | fields))


def test_attacks_follow_the_gradients_of_the_owners_models(sessions) -> None:
    """Models become attacks that name their weights; these are needed until the audit ends, and nobody else can use them."""
    audited, source = add_ready_model(sessions), add_ready_model(sessions, name="old", weights_sha256="e" * 64)
    with sessions.begin() as session:
        job = submit_audit(session, audited, transfer_from=(source,))
        job_id, job_spec = job.id, dict(job.spec)
    network = SourceNetwork(name="old", sha256="e" * 64)
    assert AuditSpec.model_validate(job_spec).attacks[-2:] == list_transfer_attacks(network)
    with pytest.raises(InUse, match=job_id), sessions.begin() as session:
        removal.remove_model(session, source)
    his = add_ready_model(sessions, owner="ben", weights_sha256="f" * 64)
    with pytest.raises(ModelNotFound, match=r"gradients of old \(eeeeeeee\)"), sessions.begin() as session:
        submit_audit(session, his, spec=job_spec, owner="ben")
    with sessions.begin() as session:
        control.cancel(session, job_id)
        removal.remove_model(session, source)
    with pytest.raises(ModelNotFound, match=r"gradients of old \(eeeeeeee\)"), sessions.begin() as session:
        submit_audit(session, audited, spec=job_spec)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "has the weights of the audited model"),
        ({"weights_sha256": "e" * 64, "spec": THREE_CLASSES}, "has 3 classes"),
    ],
)
def test_sources_that_do_not_fit_are_refused(sessions, source: dict[str, Any], message: str) -> None:
    """A source has other weights than the audited model, and as many classes."""
    audited, other = add_ready_model(sessions), add_ready_model(sessions, **source)
    with pytest.raises(InvalidSpec, match=message), sessions.begin() as session:
        submit_audit(session, audited, transfer_from=(other,))


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({}, None),
        ({"groups": {"site": ["a"]}, "training_groups": ["site", "camera"]}, None),
        ({"groups": {"camera": ["a"]}, "training_groups": ["site"]}, r"test part .* 'site'; it has 'camera'"),
        ({"groups": {"site": ["a"]}, "training_groups": []}, r"training part .* 'site'; it has none"),
    ],
    ids=["older upload", "in both parts", "not in the test part", "not in the training part"],
)
def test_an_upload_without_the_column_of_groups_is_refused(
    sessions, summary: dict[str, Any], message: str | None
) -> None:
    """A fine-tuning by groups is queued unless the upload is known to lack the column in a part."""
    model = add_ready_model(sessions)
    sizes = {"shape": [1, 28, 28], "class_names": list(SPEC.class_names), "images": {"train": 10, "test": 10}}
    with sessions.begin() as session:
        data = Dataset(name="photos", owner="ann", state=UploadState.READY, summary=sizes | summary)
        session.add(data)
        session.flush()
        fields = {"kind": JobKind.FINETUNE, "dataset": data.id, "spec": {"method": {"groups": "site"}}}
        if message is None:
            assert submit_audit(session, model, **fields).id
        else:
            with pytest.raises(GroupsMissing, match=message):
                submit_audit(session, model, **fields)


def test_a_data_set_of_the_catalog_has_no_groups(sessions) -> None:
    """A fine-tuning by groups of a data set of the catalog is refused when it is sent, not when it is computed."""
    model = add_ready_model(sessions)
    fields = {"kind": JobKind.FINETUNE, "dataset": "fashion-mnist-subset", "spec": {"method": {"groups": "site"}}}
    with sessions.begin() as session, pytest.raises(GroupsMissing, match="it has none"):
        submit_audit(session, model, **fields)
