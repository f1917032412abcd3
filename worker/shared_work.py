"""The description of a shared audit, from which a helper rebuilds its work; the helper checks that the work is the same."""

import hashlib
import json

import torch
from pydantic import BaseModel, ConfigDict

from faal_core import weights
from faal_core.auditing.batches import BatchWork
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.mean_of_draws import MeanOfDraws
from faal_core.auditing.provenance import describe_provenance
from faal_core.auditing.sources import prepare_sources
from faal_core.datasets.labelled_images import Part
from faal_core.datasets.matching import match_classes
from faal_core.errors import InvalidSpec
from faal_core.results.ledger import CLEAN
from faal_core.results.schedule import Batch
from faal_core.specs import AttackSpec, ClassifierSpec
from faal_core.threat_model import ThreatModel
from worker.inputs import JobInputs

_SAMPLE = 8  # images on which leader and helper compare the outputs of their networks
_REPEATABLE = 1e-3  # fraction of the largest output, by which those of one network may differ, as in the ledger


class WorkDiffers(Exception):
    """The helper's network or images are not those of the leader."""


class SharedWork(BaseModel):
    """Describes the work of an audit.

    Args:
        rows: row numbers of the images in their part of the data set; None for all.
        classifier, weights: spec of the network and digest of its file in storage; None for the job's model.
        weights_sha256, data_sha256: as in the report.
        draws: of a network with random outputs, whose mean is audited; None for other networks.
        threads: processor threads that compute a batch; another number could round another way.
        sample: the logit margins of the first images without an attack.
    """

    model_config = ConfigDict(frozen=True)

    part: Part
    rows: tuple[int, ...] | None
    classifier: ClassifierSpec | None
    weights: str | None
    weights_sha256: str
    data_sha256: str
    draws: int | None
    threat: ThreatModel
    attacks: tuple[AttackSpec, ...]
    batch_size: int
    seed: int
    threads: int
    sample: tuple[float, ...]


def describe_work(
    work: BatchWork, *, classifier: ClassifierSpec | None, weights_file: str | None, threads: int
) -> SharedWork:
    """Return the description of the work for helpers.

    Args:
        classifier, weights_file: where the network is not the job's model, its spec and the digest of its file in storage.
        threads: that compute a batch in the leader.
    """
    evaluator = work.evaluator
    return SharedWork(
        part=evaluator.data.part,
        rows=None if evaluator.data.rows is None else tuple(evaluator.data.rows.tolist()),
        classifier=classifier,
        weights=weights_file,
        weights_sha256=weights.digest(evaluator.classifier),
        data_sha256=evaluator.data.sha256,
        draws=_count_draws(work),
        threat=work.threat,
        attacks=work.specs,
        batch_size=evaluator.batch_size,
        seed=evaluator.seed,
        threads=threads,
        sample=_sample(work),
    )


def rebuild_work(shared: SharedWork, inputs: JobInputs) -> BatchWork:
    """Return the work on this machine.

    Raises: WorkDiffers where the network, its weights or the images differ from the leader's; FileLost, StoreUnavailable; and
        the errors of weights and data sets.
    """
    if shared.weights is None or shared.classifier is None:
        classifier = inputs.read_classifier(inputs.read_model())
    else:
        classifier = weights.read_classifier(inputs.fetch_file(shared.weights), shared.classifier)
    data = match_classes(classifier, inputs.load_images(shared.part))
    if shared.rows is not None:
        data = data.take(torch.tensor(shared.rows))
    if shared.draws is not None:
        classifier = MeanOfDraws(classifier, shared.draws)
    if weights.digest(classifier) != shared.weights_sha256 or data.sha256 != shared.data_sha256:
        raise WorkDiffers("The weights or the images differ from those of the worker that runs the job.")
    try:
        sources = inputs.read_sources(shared.attacks)
    except InvalidSpec as error:
        raise WorkDiffers(error.message) from error
    evaluator = Evaluator(
        classifier,
        data,
        device=inputs.device,
        batch_size=shared.batch_size,
        seed=shared.seed,
        sources=prepare_sources(sources, data, inputs.device),
    )
    work = BatchWork(evaluator, shared.threat, shared.attacks)
    margins = torch.tensor(shared.sample), torch.tensor(_sample(work))
    if float((margins[0] - margins[1]).abs().max()) > _REPEATABLE * float(margins[0].abs().max()):
        raise WorkDiffers("The network's outputs differ from those on the worker that runs the job.")
    return work


def identify_work(work: BatchWork, environment: str) -> str:
    """Return the digest of all that determines the results of any batch."""
    evaluator = work.evaluator
    parts = [
        environment,
        weights.digest(evaluator.classifier),
        evaluator.classifier.spec.model_dump_json(),
        evaluator.data.sha256,
        str(_count_draws(work)),
        work.threat.model_dump_json(),
        *(spec.model_dump_json() for spec in work.specs),
        str(evaluator.seed),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def describe_environment(device: torch.device) -> str:
    """Return what leader and helper must have in common, as JSON: versions and the kind of the device."""
    own = describe_provenance(device, None).model_dump(include={"faal", "torch", "cuda", "device", "instruction_set"})
    return json.dumps(own, sort_keys=True)


def _count_draws(work: BatchWork) -> int | None:
    classifier = work.evaluator.classifier
    return classifier.draws if isinstance(classifier, MeanOfDraws) else None


def _sample(work: BatchWork) -> tuple[float, ...]:
    rows = tuple(range(min(_SAMPLE, len(work.evaluator.data))))
    return work.compute(Batch(CLEAN, 0, rows)).result.logit_margin
