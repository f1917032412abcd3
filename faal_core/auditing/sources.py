"""Prepare the sources of transfer attacks: other networks, whose gradients such an attack follows."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from faal_core import weights
from faal_core.auditing.mean_of_draws import GRADIENT_DRAWS, MeanOfDraws
from faal_core.auditing.reliability.outputs import check_repeatability
from faal_core.auditing.suitability import check_network
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable, FaalError, InvalidSpec, WeightsAmbiguous, WeightsUnreadable
from faal_core.specs import AuditSpec, SourceNetwork
from faal_core.specs.attacks import list_sources
from faal_core.specs.class_names import normalise_name
from faal_core.specs.escalation import list_transfer_attacks
from faal_core.specs.field_errors import check_fields


@dataclass(frozen=True)
class Source:
    """A network whose gradients attacks may follow, under the name that reports give it."""

    name: str
    classifier: Classifier

    @cached_property
    def network(self) -> SourceNetwork:
        """Return the description of the network, in the specs of attacks."""
        return SourceNetwork.from_weights(self.name, weights.digest(self.classifier))


NamedSource = Classifier | str | Path
"""A network, or the path of its weights."""


def collect_sources(networks: NamedSource | Iterable[NamedSource], classifier: Classifier) -> list[Source]:
    """Return the sources that a caller in Python names. Networks are copied, so that the caller's own stay as they are.

    Args:
        classifier: the audited one.
    Raises: InvalidSpec for anything else than a classifier or a path; and as `read_source`.
    """
    if isinstance(networks, NamedSource) or not isinstance(networks, Iterable):
        networks = [networks]
    sources = []
    for one in networks:
        if isinstance(one, Classifier):
            sources.append(Source(one.spec.architecture.rpartition(".")[2], copy.deepcopy(one)))
        elif isinstance(one, str | Path):
            sources.append(read_source(Path(one), classifier))
        else:
            raise InvalidSpec(f"transfer_from: a {type(one).__name__} is neither a Classifier nor the path of weights.")
    return sources


def read_source(path: Path, classifier: Classifier) -> Source:
    """Return the network in the file. Where the file does not state its architecture, it has that of the audited classifier.

    Raises: the errors of `weights.read_classifier`, which name the file, and no option: those are about the audited weights.
    """
    try:
        return Source(path.stem, _read(path, classifier))
    except FaalError as error:
        advice = " The file of a source must hold one set." if isinstance(error, WeightsAmbiguous) else ""
        raise type(error)(f"{path.name}, named for transfer attacks: {error.message}{advice}") from error


def _read(path: Path, classifier: Classifier) -> Classifier:
    try:
        return weights.read_classifier(path)
    except WeightsUnreadable as error:
        if error.remedy != "architecture":
            raise
        return weights.read_classifier(path, classifier.spec, network=copy.deepcopy(classifier.backbone))


def add_transfer_attacks(spec: AuditSpec, classifier: Classifier, sources: Sequence[Source]) -> AuditSpec:
    """Return the spec with attacks by the gradients of each source, unless it has attacks by them already.

    Raises: InvalidSpec for too many sources, one that is the classifier itself, or one that has the weights of another source;
        ClassifierUnsuitable.
    """
    if not sources:
        return spec
    check_network(classifier)
    attacks, known, digest = list(spec.attacks), dict[str, str](), weights.digest(classifier)
    for source in sources:
        check_network(source.classifier)
        network = source.network
        if network.sha256 == digest and source.classifier.spec == classifier.spec:
            known[digest] = "the audited network"
        if network.sha256 in known:
            raise InvalidSpec(
                f"The network {network}, named for transfer attacks, has the weights of {known[network.sha256]}. "
                "Name another one."
            )
        known[network.sha256] = f"the network {network}"
        if network.sha256 not in list_sources(spec.attacks):
            attacks += list_transfer_attacks(network)
    return check_fields(AuditSpec, **{**dict(spec), "attacks": tuple(attacks)})


def prepare_sources(sources: Sequence[Source], data: LabelledImages, device: torch.device) -> dict[str, Classifier]:
    """Return the networks in eval mode on the device, by the digest of their weights.

    Where outputs are random, attacks follow the mean of several draws with fixed seeds.

    Args:
        data: the audited images, with labels in the order of the audited network's classes.
    Raises: InvalidSpec for a network with other classes, or which does not accept the images; ClassifierUnsuitable.
    """
    return {source.network.sha256: _prepare(source, data, device) for source in sources}


@torch.no_grad()
def _prepare(source: Source, data: LabelledImages, device: torch.device) -> Classifier:
    classifier, subject = source.classifier, f"The network {source.network}, named for transfer attacks,"
    check_network(classifier)
    if classifier.num_classes != len(data.class_names):
        raise InvalidSpec(
            f"{subject} has {classifier.num_classes} classes, and the audited network has {len(data.class_names)}. "
            "Name a network with the same classes."
        )
    names, known = (
        [normalise_name(name) for name in some or ()] for some in (classifier.spec.class_names, data.class_names)
    )
    if names != known and set(names) == set(known):
        raise InvalidSpec(
            f"{subject} has the classes in another order than the audited network. Use one order in both."
        )
    classifier.adapt_to_channels(data.images.shape[1])
    classifier.place(device).eval()
    x, size = data.pixels(torch.arange(min(2, len(data))), device), " × ".join(map(str, data.images.shape[1:]))
    try:
        classifier.choose_layout(x)
        logits, again = (classifier(classifier.lay_out(x)) for _ in range(2))
    except (RuntimeError, ValueError, AssertionError, TypeError, ClassifierUnsuitable) as error:
        raise InvalidSpec(f"{subject} does not accept images of {size}: {str(error)[:200]}") from error
    if logits.shape != (len(x), classifier.num_classes):
        raise InvalidSpec(
            f"{subject} returned outputs of shape {tuple(logits.shape)} for {len(x)} images. It must return "
            f"{classifier.num_classes} logits for each image."
        )
    if check_repeatability(logits, again) is None:
        return classifier
    mean = MeanOfDraws(classifier, GRADIENT_DRAWS).eval()
    mean.choose_layout(x)
    return mean
