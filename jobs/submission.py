"""Submit a job: check that its model and data set can be used and fit each other, then queue it. Estimates share the checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from faal_core import catalog
from faal_core.catalog.onnx_format import ONNX
from faal_core.errors import GroupsMissing, InvalidSpec
from faal_core.specs import AuditSettings, AuditSpec, SourceNetwork
from faal_core.specs.attacks import list_sources
from faal_core.specs.class_names import normalise_name
from faal_core.specs.escalation import list_transfer_attacks
from faal_core.specs.field_errors import check_fields, shorten
from jobs import model_registry, moves
from jobs.comparisons import require_comparable_jobs
from jobs.errors import DatasetNotFound, DatasetNotReady, ModelNotFound, ModelNotReady
from jobs.idempotency import create_once, payload_digest
from jobs.named_datasets import require_available
from jobs.quotas import require_room_for_job
from jobs.settings import MAX_PRIORITY, Settings
from jobs.states import JobKind, UploadState
from jobs.tables import Dataset, Job, Model

_MOST_LISTED_CHARACTERS = 600  # of the columns that a message lists
UPLOADED_DATASET = "dataset_"
"""How the id of an uploaded data set begins; every other reference is a name from the catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job to be queued.

    Args:
        model_id: absent for a comparison.
        dataset: name in the catalog, or id of an uploaded data set; absent for a comparison.
        spec: the fields of an AuditSpec or a FinetuneSpec, as JSON; of a comparison, the ids of the `jobs`.
        transfer_from: ids of models whose gradients attacks of an audit follow, after those of the spec.
        max_priority: highest priority that this job may have; a higher `priority` is lowered to it.
        pool: the workers that may run the job; any worker when absent.
        budget_minutes: minutes of running, over all attempts, after which the job ends with the results so far.
        deadline: aware time at which the job ends with the results so far; a job that has not started by then fails.
        retry_of: id of the job that this one repeats.
        submitted_by: name of the API key, for people.
    """

    kind: JobKind
    model_id: str | None = None
    dataset: str | None = None
    spec: Mapping[str, Any]
    transfer_from: Sequence[str] = ()
    owner: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    max_priority: int = MAX_PRIORITY
    pool: str | None = None
    budget_minutes: float | None = None
    deadline: datetime | None = None
    retry_of: str | None = None
    submitted_by: str | None = None
    idempotency_key: str | None = None

    @property
    def payload_sha256(self) -> str:
        """Return the digest of the request, by which a repeated idempotency key is compared."""
        payload: dict[str, Any] = {
            "kind": self.kind,
            "model": self.model_id,
            "dataset": self.dataset,
            "spec": self.spec,
            "metadata": dict(self.metadata),
        }
        if self.transfer_from:
            payload |= {"transfer_from": list(self.transfer_from)}
        if self.priority or self.retry_of:
            payload |= {"priority": self.priority, "retry_of": self.retry_of}
        if self.pool is not None:
            payload |= {"pool": self.pool}
        if self.budget_minutes is not None or self.deadline is not None:
            deadline = None if self.deadline is None else self.deadline.astimezone(UTC).isoformat()
            payload |= {"budget_minutes": self.budget_minutes, "deadline": deadline}
        return payload_digest(payload)


class Inputs(NamedTuple):
    """The model of a job, the summary of its data set (None for one of the catalog), and its spec with all attacks."""

    model: Model
    dataset_summary: Mapping[str, Any] | None
    spec: Mapping[str, Any]


def submit(session: Session, settings: Settings, submission: Submission) -> Job:
    """Queue a job with its first event, or return the job that its idempotency key created before. Ring after the commit.

    Raises: IdempotencyConflict, QuotaExceeded and the errors of `check`; for a comparison those of `require_comparable_jobs`.
    """

    def create() -> Job:
        spec = submission.spec
        if submission.kind is JobKind.COMPARE:
            require_comparable_jobs(session, spec["jobs"])
        else:
            spec = check(session, settings, submission).spec
        require_room_for_job(session, submission.owner, submission.kind, settings.quota)
        job = Job(
            kind=submission.kind,
            owner=submission.owner,
            model_id=submission.model_id,
            dataset=submission.dataset,
            spec=dict(spec),
            metadata_=dict(submission.metadata),
            epsilon=spec.get("threat", {}).get("epsilon"),
            priority=min(submission.priority, submission.max_priority),
            pool=submission.pool,
            budget_minutes=submission.budget_minutes,
            deadline=submission.deadline,
            retry_of=submission.retry_of,
            submitted_by=submission.submitted_by,
            idempotency_key=submission.idempotency_key,
            payload_sha256=submission.payload_sha256,
        )
        return moves.add_job(session, job)

    return create_once(
        session,
        Job,
        owner=submission.owner,
        key=submission.idempotency_key,
        payload_sha256=submission.payload_sha256,
        create=create,
    )


def check(session: Session, settings: Settings, submission: Submission) -> Inputs:
    """Check that the job can run on this site, and return its inputs, which nobody can delete until the transaction ends.

    Raises: ModelNotFound, ModelNotReady, DatasetNotFound, DatasetNotReady; UnknownName for a data set that is
        neither uploaded nor in the catalog; DatasetMissing; GroupsMissing; InvalidSpec where model, data set and sources of
        transfer attacks do not fit, or for the fine-tuning of an ONNX network.
    """
    model, dataset = require_model_ready(session, submission.model_id or ""), submission.dataset or ""
    if submission.kind is JobKind.FINETUNE and model.spec["architecture"] == ONNX:
        raise InvalidSpec(
            f"Model {model.id} is an ONNX network, which can be audited but not fine-tuned. Upload the weights of the PyTorch "
            "network that was exported."
        )
    summary = require_dataset_ready(session, dataset)
    require_fit(model.spec, dataset, summary, training=submission.kind is JobKind.FINETUNE)
    if submission.kind is JobKind.FINETUNE:
        _require_groups(submission.spec, dataset, summary)
    require_available(settings, dataset)
    spec = submission.spec
    if submission.transfer_from:
        spec = _add_transfer_attacks(session, submission, model).model_dump(mode="json")
    if submission.kind is JobKind.AUDIT:
        _require_sources(session, submission.owner, spec, model)
    return Inputs(model, summary, spec)


def _require_groups(spec: Mapping[str, Any], dataset: str, summary: Mapping[str, Any] | None) -> None:
    """Check that the data set has the column of groups that the method names, as far as its columns are stored.

    Args:
        summary: of an uploaded data set; None for one of the catalog, which has no columns of groups.
    Raises: GroupsMissing.
    """
    column = spec.get("method", {}).get("groups")
    if column is None:
        return
    for part, field_name in (("training", "training_groups"), ("test", "groups")):
        # A summary of an earlier version has no such field.
        columns = [] if summary is None else list(summary.get(field_name, [column]))
        if column not in columns:
            known = shorten(", ".join(map(repr, columns)), _MOST_LISTED_CHARACTERS) or "none"
            raise GroupsMissing(
                f"method.groups: the {part} part of {dataset} has no column of groups {column!r}; it has {known}."
            )


def _require_sources(session: Session, owner: str, spec: Mapping[str, Any], model: Model) -> None:
    """Check the models whose gradients attacks follow; nobody deletes them until the transaction ends.

    Raises: ModelNotFound where the owner has no model with such weights; InvalidSpec where one does not fit the audited model.
    """
    settings = AuditSettings.model_validate({"attacks": spec["attacks"]} if "attacks" in spec else {})
    for sha256, network in list_sources(settings.attacks).items():
        source = model_registry.find_by_weights(session, owner, sha256)
        if source is None:
            raise ModelNotFound(
                f"An attack follows the gradients of {network}, and no model that is ready has these weights. "
                "`GET /models` lists the `sha256` of each."
            )
        source = require_model_ready(session, source.id)  # until the transaction ends
        sizes = [(one.spec["num_classes"], len(one.spec["mean"])) for one in (source, model)]
        if sizes[0] != sizes[1]:
            raise InvalidSpec(
                f"Model {source.id}, whose gradients an attack follows, has {sizes[0][0]} classes and {sizes[0][1]} channels, "
                f"and model {model.id} has {sizes[1][0]} and {sizes[1][1]}. Choose one that fits the other."
            )


def _add_transfer_attacks(session: Session, submission: Submission, model: Model) -> AuditSpec:
    """Return the spec with attacks by the gradients of the models that the submission names, after its own.

    Raises: ModelNotFound, ModelNotReady; InvalidSpec for a source with the weights of the audited model, or too many sources.
    """
    spec = AuditSpec.model_validate(submission.spec)
    attacks = [*spec.attacks]
    for source_id in submission.transfer_from:
        source = require_model_ready(session, source_id)
        if source.weights_sha256 is None:
            raise InvalidSpec(f"Model {source.id} was checked by an earlier version of FAAL. Upload it again.")
        if source.weights_sha256 == model.weights_sha256:
            raise InvalidSpec(
                f"Model {source.id} has the weights of the audited model. Name another one in transfer_from."
            )
        network = SourceNetwork.from_weights(source.name, source.weights_sha256)
        if network.sha256 not in list_sources(attacks):
            attacks += list_transfer_attacks(network)
    return check_fields(AuditSpec, **{**dict(spec), "attacks": tuple(attacks)})


def require_model_ready(session: Session, model_id: str) -> Model:
    """Return a model that can be used; nobody deletes it until the transaction ends. Raises: ModelNotFound, ModelNotReady."""
    model = session.get(Model, model_id, with_for_update={"read": True}, populate_existing=True)
    if model is None:
        raise ModelNotFound(f"There is no model {model_id!r}; `GET /models` lists them.")
    if model.state is not UploadState.READY:
        raise ModelNotReady(_not_ready("Model", model))
    return model


def require_dataset_ready(session: Session, reference: str) -> Mapping[str, Any] | None:
    """Return the summary of an uploaded data set that can be used, and None for a data set of the catalog.

    Raises: DatasetNotFound, DatasetNotReady, UnknownName.
    """
    if not reference.startswith(UPLOADED_DATASET):
        catalog.dataset(reference)
        return None
    uploaded = session.get(Dataset, reference, with_for_update={"read": True}, populate_existing=True)
    if uploaded is None:
        raise DatasetNotFound(f"There is no data set {reference!r}; `GET /datasets` lists them.")
    if uploaded.state is not UploadState.READY:
        raise DatasetNotReady(_not_ready("Data set", uploaded))
    return uploaded.summary


def _not_ready(noun: str, upload: Model | Dataset) -> str:
    if upload.state is UploadState.DELETED:
        return f"{noun} {upload.id} was deleted. Choose another, or upload it again."
    if upload.error is None:
        return f"{noun} {upload.id} is still being checked. Try again when its status is ready."
    return f"{noun} {upload.id} was rejected: {upload.error['message']}"


def require_fit(
    classifier: Mapping[str, Any], dataset: str, summary: Mapping[str, Any] | None, *, training: bool
) -> None:
    """Check a model and a data set against each other, without loading either.

    Args:
        classifier: the fields of the model's ClassifierSpec.
        dataset: name in the catalog, or id of an uploaded data set.
        summary: of an uploaded data set; None for one of the catalog.
        training: whether the job needs the training part.

    Raises: InvalidSpec where the numbers of classes or channels differ (classes are matched by name where both have names), or
        where the training part is missing.
    """
    if summary is not None:
        classes, channels = len(summary["class_names"]), summary["shape"][0]
        if training and "train" not in summary["images"]:
            raise InvalidSpec(
                f"The data set {dataset} has no training part, and a fine-tuning needs one. Choose another."
            )
    else:
        entry = catalog.dataset(dataset)
        classes, channels = entry.num_classes, entry.shape[0]
        if classes == 0:  # a data set that the site installed: its classes are known only once it is loaded
            return
    num_classes = classifier["num_classes"]
    if classes != num_classes and not (summary and _has_classes(summary["class_names"], classifier)):
        raise InvalidSpec(
            f"The model has {num_classes} classes and the data set {dataset} has {classes}. Choose one that fits the other."
        )
    if channels != len(classifier["mean"]):
        raise InvalidSpec(
            f"The model takes images of {len(classifier['mean'])} channels and the images of {dataset} have {channels}. "
            "Choose one that fits the other."
        )


def _has_classes(names: Sequence[str], classifier: Mapping[str, Any]) -> bool:
    """Return whether the classifier has all classes of the data set, by their names or their numbers."""
    if all(name.isdecimal() for name in names):
        return all(int(name) < classifier["num_classes"] for name in names)
    return {normalise_name(name) for name in names} <= {
        normalise_name(name) for name in classifier["class_names"] or ()
    }
