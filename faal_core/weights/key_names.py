"""Fit a set of weights to a network: ignore bookkeeping, check the normalisation in the file, explain what does not fit."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.weights.library_names import current_names
from faal_core.weights.weight_sets import WeightSet

# Buffers under which training code keeps its normalisation, by what they hold.
NORMALISATION = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}
NORMALISATION_TOLERANCE = 1e-4
LISTED = 5

# Modules that training code keeps beside a network. Words that a layer may be called (scaler, accuracy, metric) are not here.
_BOOKKEEPING = re.compile(
    r"(\w+_)?(loss|losses|criterion|criteria|optim|optimi[sz]er|(lr_)?scheduler)(_?(fn|\d+))?"
    r"|(train|training|val|valid|validation|test)_metrics?",
    re.IGNORECASE,
)
# Single values that no logit depends on: anywhere, and where they are not in the network, whose parameters these may be called.
_COUNTERS = {
    *("num_batches_tracked", "n_averaged", "num_updates", "epoch", "global_step", "iteration"),
    *("total_ops", "total_params"),
}
_COUNTERS_BESIDE = {"decay", "step"}


def own_names(weights: WeightSet, network: nn.Module) -> dict[str, Tensor]:
    """The tensors behind the set's prefix, without it, as the network's own library names them."""
    start = weights.prefix
    behind = {name.removeprefix(start): tensor for name, tensor in weights.tensors.items() if name.startswith(start)}
    return current_names(behind, network)


def arrange(weights: WeightSet, network: nn.Module, spec: ClassifierSpec) -> dict[str, Tensor]:
    """The set's tensors by the network's own names; batch counters that the file lacks are left out.

    The prefix of the set is dropped, the network's own library renames what it renames, keys in its `unused_keys`, counters
    (`n_averaged`) and modules of the training beside the network (`loss.…`, `criterion.…`) are left out; with a set that was
    chosen by its key everything beside it is. A mean or std is compared with the spec's, whatever it is part of.

    Args:
        network: for its names and shapes; may be on the meta device.

    Raises: WeightsMismatch where names, shapes or a normalisation do not fit.
    """
    own, named = network.state_dict(), own_names(weights, network)
    beside = {name: t for name, t in weights.tensors.items() if not name.startswith(weights.prefix)}
    extra = {name: t for name, t in named.items() if name not in own}
    for name, tensor in sorted({**extra, **beside}.items()):
        if name.rpartition(".")[2] in NORMALISATION:
            _check_normalisation(name, tensor, spec)
            extra.pop(name, None)
            beside.pop(name, None)
    unused: tuple[str, ...] = getattr(network, "unused_keys", ())
    extra = {name: t for name, t in extra.items() if not name.startswith(unused) and not _counts(name, t, _COUNTERS)}
    if not weights.prefix:  # then the training's modules are among the network's own
        extra = {name: t for name, t in extra.items() if not _of_training(name) or _shares_module(name, own)}
    beside = {name: t for name, t in beside.items() if not _is_bookkeeping(_after_common(name, weights.prefix), t)}
    fitting = {name: t for name, t in named.items() if name in own} | extra
    if beside and not weights.chosen:
        _check_names_and_shapes(fitting, own, spec, beside)
        raise _beside(weights, sorted(beside))
    _check_names_and_shapes(fitting, own, spec)
    return fitting


def fill(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Give the classifier's network those values; floats of any width become float32.

    Batch counters (`num_batches_tracked`), on which no logit depends, are rounded: an average of state dicts leaves fractions.

    Args:
        tensors: by the network's names, with its shapes, but for single values.

    Raises: WeightsUnreadable for NaN, infinity, and a fraction where the network has whole numbers.
    """
    own = classifier.backbone.state_dict()
    for name, tensor in tensors.items():
        kind = own[name].dtype if own[name].is_floating_point() else torch.float64
        value = tensor.reshape(own[name].shape).to(kind)
        if not bool(torch.isfinite(value).all()):
            raise WeightsUnreadable(f"{name} holds NaN or infinite values.")
        if name.endswith("num_batches_tracked"):
            value = value.round()
        converted = value.to(own[name].dtype)
        if not converted.is_floating_point() and not bool((converted == value).all()):
            raise WeightsUnreadable(
                f"{name} holds {value.flatten()[0].item():g}; the network has a whole number there."
            )
        own[name].copy_(converted)


def channels_of(tensors: Mapping[str, Tensor], network: nn.Module) -> int | None:
    """How many channels the first convolution takes, where its shape is the network's in all but that; None otherwise."""
    odd = [
        (own.shape, tensors[name].shape)
        for name, own in network.state_dict().items()
        if name in tensors and own.shape != tensors[name].shape
    ]
    takes = {theirs[1] for mine, theirs in odd if _differ_in_channels(mine, theirs)}
    return takes.pop() if len(takes) == 1 else None


def _differ_in_channels(mine: torch.Size, theirs: torch.Size) -> bool:
    return len(mine) == len(theirs) == 4 and mine[1] != theirs[1] and (mine[0], *mine[2:]) == (theirs[0], *theirs[2:])


def _after_common(name: str, prefix: str) -> str:
    """The name without the parts that it shares with the prefix."""
    parts, shared = name.split("."), prefix.split(".")
    common = next((i for i, part in enumerate(parts) if i >= len(shared) or shared[i] != part), 0)
    return ".".join(parts[common:])


def _is_bookkeeping(name: str, tensor: Tensor) -> bool:
    """Whether a tensor beside the network is a counter, or belongs to a module of the training."""
    return _counts(name, tensor, _COUNTERS | _COUNTERS_BESIDE) or _of_training(name)


def _counts(name: str, tensor: Tensor, counters: set[str]) -> bool:
    """Whether the tensor is a single value of one of those names, in any module."""
    return name.rpartition(".")[2] in counters and tensor.numel() == 1


def _of_training(name: str) -> bool:
    """Whether the name's first part is a module of the training."""
    return _BOOKKEEPING.fullmatch(name.partition(".")[0]) is not None


def _shares_module(name: str, own: Iterable[str]) -> bool:
    """Whether one of the network's own names has the same first part."""
    return any(key.startswith(f"{name.partition('.')[0]}.") for key in own)


def _beside(weights: WeightSet, names: list[str]) -> WeightsMismatch:
    """The error for tensors that may belong to the network or not."""
    return WeightsMismatch(
        f"The network's weights lie under {weights.key!r}, and {len(names)} tensors lie beside it: {_listed(names)}. If the "
        f"network's answers do not depend on them, choose its weights alone: weights_key {weights.key} "
        f"(--weights-key {weights.key})."
    )


def _listed(names: list[str]) -> str:
    more = f", … {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(name[:150] for name in names[:LISTED]) + more


def _check_normalisation(name: str, tensor: Tensor, spec: ClassifierSpec) -> None:
    """Check that the file's mean or std is the one in the spec. Raises: WeightsMismatch."""
    kind = NORMALISATION[name.rpartition(".")[2]]
    asked = torch.tensor(spec.mean if kind == "mean" else spec.std)
    found = tensor.flatten().float()
    if found.shape != asked.shape or not torch.allclose(found, asked, rtol=0, atol=NORMALISATION_TOLERANCE):
        values = ", ".join(f"{value:.4g}" for value in found[:4].tolist())
        stated = ", ".join(f"{value:.4g}" for value in asked.tolist())
        raise WeightsMismatch(
            f"The file normalises with {kind} ({values}) in {name!r}; the spec says {kind} ({stated})."
        )


def _check_names_and_shapes(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], spec: ClassifierSpec, beside: Iterable[str] = ()
) -> None:
    """Check that all names are there and no others. Raises: WeightsMismatch naming the first misfits of each kind.

    Args:
        beside: names that are no misfit by themselves, and may be what others were missed for.
    """
    odd = [name for name in sorted(own.keys() & tensors.keys()) if not _fits(tensors[name], own[name])]
    misfits = {
        "missing": sorted(name for name in own.keys() - tensors.keys() if not name.endswith("num_batches_tracked")),
        "unexpected": sorted(tensors.keys() - own.keys()),
        "of another shape or type": [f"{name} {_described(tensors[name], own[name])}" for name in odd],
    }
    if not any(misfits.values()):
        return
    misfits["unexpected"] += sorted(beside)
    parts = [f"The weights do not fit {spec.architecture}."]
    for name in odd:
        mine, theirs = own[name].shape, tensors[name].shape
        if mine[1:] == theirs[1:] and mine[:1] == (spec.num_classes,) != theirs[:1] != ():
            parts.append(f"They tell {theirs[0]} classes apart; the spec says {spec.num_classes}.")
            break
    for name in odd:
        mine, theirs = own[name].shape, tensors[name].shape
        if _differ_in_channels(mine, theirs) and mine[1] == spec.channels:
            parts.append(
                f"They take images of {theirs[1]} channels; the spec says {spec.channels}, because mean has "
                f"{spec.channels} values and the number of means sets the channels. Give mean and std {theirs[1]} values each."
            )
            break
    parts += [f"{len(names)} keys are {kind}: {_listed(names)}." for kind, names in misfits.items() if names]
    raise WeightsMismatch(" ".join(parts))


def _fits(tensor: Tensor, own: Tensor) -> bool:
    """Whether the shape is that of `own` and the type converts: any width of floats, and any real number for a counter."""
    if own.ndim == 0 and not own.is_floating_point():
        return tensor.numel() == 1 and not tensor.is_complex()
    return (
        tensor.shape == own.shape and tensor.is_floating_point() == own.is_floating_point() and not tensor.is_complex()
    )


def _described(tensor: Tensor, own: Tensor) -> str:
    """Both shapes, or types where the shapes are equal."""
    if tensor.shape != own.shape:
        return f"{tuple(tensor.shape)} for {tuple(own.shape)}"
    return f"{tensor.dtype} for {own.dtype}".replace("torch.", "")
