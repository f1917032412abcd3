"""Fitting a file's tensors to a classifier: prefixes of key names, normalisation that rides along, misfits in words."""

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.specs import ClassifierSpec

# Buffers under which training code keeps its normalisation, by what they hold.
NORMALISATION = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}
NORMALISATION_TOLERANCE = 1e-4
LISTED = 5


def fit(tensors: Mapping[str, Tensor], classifier: Classifier) -> None:
    """Nothing. Afterwards the classifier's backbone has the values of `tensors`.

    A prefix that the file's names share (`module.`, `model.`, `1.` …) is dropped; `num_batches_tracked` may be missing,
    as in files of torch before 0.4.1; keys in the backbone's `unused_keys` are ignored; floats of any width become
    float32.
    Raises: WeightsMismatch where names, shapes or a normalisation do not fit; WeightsUnreadable for NaN or infinity.
    """
    own = classifier.backbone.state_dict()
    unused: tuple[str, ...] = getattr(classifier.backbone, "unused_keys", ())
    prefix = shared_prefix(tensors, own)
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if len(named) < len(tensors):
        raise WeightsMismatch(
            f"The file holds two sets of weights, one with the prefix {prefix!r}; save the one meant."
        )
    normalisation = {name for name in named.keys() - own.keys() if name.rpartition(".")[2] in NORMALISATION}
    for name in sorted(normalisation):
        _check_normalisation(name, named[name], classifier.spec)
    fitting = {
        name: tensor for name, tensor in named.items() if name not in normalisation and not name.startswith(unused)
    }
    for name in own.keys() - fitting.keys():
        if name.endswith("num_batches_tracked"):
            fitting[name] = own[name]
    _check_names_and_shapes(fitting, own, classifier.spec)
    classifier.backbone.load_state_dict({name: _finite(name, tensor, own[name]) for name, tensor in fitting.items()})


def shared_prefix(names: Iterable[str], own: Iterable[str]) -> str:
    """What stands before most of the names that end in one of the `own` names, often nothing."""
    known, prefixes = set(own), Counter[str]()
    for name in names:
        starts = [0, *(i + 1 for i, sign in enumerate(name) if sign == ".")]
        prefixes.update(name[:start] for start in starts if name[start:] in known)
    return max(prefixes, key=prefixes.__getitem__, default="")


def _check_normalisation(name: str, tensor: Tensor, spec: ClassifierSpec) -> None:
    """Nothing. Raises: WeightsMismatch where the file's mean or std is not the one in the spec."""
    kind = NORMALISATION[name.rpartition(".")[2]]
    asked = torch.tensor(spec.mean if kind == "mean" else spec.std)
    found = tensor.flatten().float()
    if found.shape != asked.shape or not torch.allclose(found, asked, rtol=0, atol=NORMALISATION_TOLERANCE):
        values = ", ".join(f"{value:.4g}" for value in found[:4].tolist())
        stated = ", ".join(f"{value:.4g}" for value in asked.tolist())
        raise WeightsMismatch(
            f"The file normalises with {kind} ({values}) in {name!r}; the spec says {kind} ({stated})."
        )


def _check_names_and_shapes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], spec: ClassifierSpec) -> None:
    """Nothing. Raises: WeightsMismatch naming the first misfits of each kind and how many there are."""
    shared = sorted(own.keys() & tensors.keys())
    odd = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
        for name in shared
        if tensors[name].shape != own[name].shape or tensors[name].is_floating_point() != own[name].is_floating_point()
    ]
    misfits = {
        "missing": sorted(own.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - own.keys()),
        "of another shape or type": odd,
    }
    if not any(misfits.values()):
        return
    parts = [f"The weights do not fit {spec.architecture}."]
    for name in shared:
        mine, theirs = own[name].shape, tensors[name].shape
        if mine != theirs and mine[1:] == theirs[1:] and mine[0] == spec.num_classes:
            parts.append(f"They tell {theirs[0]} classes apart; the spec says {spec.num_classes}.")
            break
    for kind, names in misfits.items():
        if names:
            more = f", … {len(names) - LISTED} more" if len(names) > LISTED else ""
            parts.append(f"{len(names)} keys are {kind}: {', '.join(name[:150] for name in names[:LISTED])}{more}.")
    raise WeightsMismatch(" ".join(parts))


def _finite(name: str, tensor: Tensor, own: Tensor) -> Tensor:
    """The tensor in the type of `own`. Raises: WeightsUnreadable where a value is not a finite number."""
    converted = tensor.to(own.dtype)
    if not bool(torch.isfinite(converted).all()):
        raise WeightsUnreadable(f"{name} holds NaN or infinite values.")
    return converted
