"""Fit a set of weights to a network: ignore bookkeeping, check the file's normalisation, explain mismatches."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.weights.library_names import rename_to_current
from faal_core.weights.weight_sets import WeightSet

# Names of buffers that hold training code's normalisation, by the statistic.
NORMALISATION = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}
NORMALISATION_TOLERANCE = 1e-4  # covers rounding to four decimals
MAX_QUOTED = 5  # names in a message

# Training modules beside a network. Names that a layer may have (scaler, accuracy, metric) are excluded.
_BOOKKEEPING = re.compile(
    r"(\w+_)?(loss|losses|criterion|criteria|optim|optimi[sz]er|(lr_)?scheduler)(_?(fn|\d+))?"
    r"|(train|training|val|valid|validation|test)_metrics?",
    re.IGNORECASE,
)
# Single values that do not affect logits. The second set counts only outside the network, where parameters may have these names.
_COUNTERS = {
    *("num_batches_tracked", "n_averaged", "num_updates", "epoch", "global_step", "iteration"),
    *("total_ops", "total_params"),
}
_COUNTERS_BESIDE = {"decay", "step"}


def strip_prefix(weights: WeightSet, network: nn.Module) -> dict[str, Tensor]:
    """Return the set's tensors without its prefix, under the names that the network's own library uses."""
    start = weights.prefix
    tensors = {name.removeprefix(start): tensor for name, tensor in weights.tensors.items() if name.startswith(start)}
    return rename_to_current(tensors, network)


def arrange(weights: WeightSet, network: nn.Module, spec: ClassifierSpec) -> dict[str, Tensor]:
    """Return the set's tensors by the network's own names; batch counters that the file lacks are left out.

    These are dropped: the set's prefix, keys in the network's `unused_keys`, counters (`n_averaged`), and training modules
    beside the network (`loss.…`, `criterion.…`). For a set that was selected by its key, all tensors beside it are dropped. A
    mean or std is always compared with the spec's.

    Args:
        network: for its names and shapes; may be on the meta device.

    Raises: WeightsMismatch where names, shapes or a normalisation do not fit.
    """
    network_state, renamed = network.state_dict(), strip_prefix(weights, network)
    extra_beside = {name: t for name, t in weights.tensors.items() if not name.startswith(weights.prefix)}
    extra = {name: t for name, t in renamed.items() if name not in network_state}
    for name, tensor in sorted({**extra, **extra_beside}.items()):
        if name.rpartition(".")[2] in NORMALISATION:
            _check_normalisation(name, tensor, spec)
            extra.pop(name, None)
            extra_beside.pop(name, None)
    unused: tuple[str, ...] = getattr(network, "unused_keys", ())
    extra = {
        name: t for name, t in extra.items() if not name.startswith(unused) and not _is_counter(name, t, _COUNTERS)
    }
    if not weights.prefix:  # then training modules are among the network's own
        extra = {
            name: t for name, t in extra.items() if not _is_training_module(name) or _has_module_of(name, network_state)
        }
    extra_beside = {
        name: t for name, t in extra_beside.items() if not _is_bookkeeping(_drop_common_parts(name, weights.prefix), t)
    }
    network_tensors = {name: t for name, t in renamed.items() if name in network_state} | extra
    if extra_beside and not weights.is_selected:
        _check_names_and_shapes(network_tensors, network_state, spec, extra_beside)
        raise _name_unclear_tensors(weights, sorted(extra_beside))
    _check_names_and_shapes(network_tensors, network_state, spec)
    return network_tensors


def fill(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Copy those values into the classifier's network; floats of any width become float32.

    Batch counters (`num_batches_tracked`) do not affect logits. They are rounded, because averaged state dicts have fractions.

    Args:
        tensors: by the network's names and with its shapes; a single value may have any shape.

    Raises: WeightsUnreadable for NaN, infinity, and a fraction where the network has whole numbers.
    """
    network_state = classifier.backbone.state_dict()
    for name, tensor in tensors.items():
        kind = network_state[name].dtype if network_state[name].is_floating_point() else torch.float64
        value = tensor.reshape(network_state[name].shape).to(kind)
        if not bool(torch.isfinite(value).all()):
            raise WeightsUnreadable(f"{name} holds NaN or infinite values.")
        if name.endswith("num_batches_tracked"):
            value = value.round()
        converted = value.to(network_state[name].dtype)
        if not converted.is_floating_point() and not bool((converted == value).all()):
            raise WeightsUnreadable(
                f"{name} holds {value.flatten()[0].item():g}; the network needs a whole number there."
            )
        network_state[name].copy_(converted)


def infer_channels(tensors: Mapping[str, Tensor], network: nn.Module) -> int | None:
    """Return the input channels of the first convolution, if its shape differs from the network's only in them; else None."""
    misfitting = [
        (tensor.shape, tensors[name].shape)
        for name, tensor in network.state_dict().items()
        if name in tensors and tensor.shape != tensors[name].shape
    ]
    channel_counts = {stored[1] for own, stored in misfitting if _differ_only_in_channels(own, stored)}
    return channel_counts.pop() if len(channel_counts) == 1 else None


def _differ_only_in_channels(own: torch.Size, stored: torch.Size) -> bool:
    """Return whether two shapes of convolutions differ in their input channels alone."""
    return len(own) == len(stored) == 4 and own[1] != stored[1] and (own[0], *own[2:]) == (stored[0], *stored[2:])


def _drop_common_parts(name: str, prefix: str) -> str:
    """Return the name without the leading parts that it shares with the prefix."""
    parts, shared = name.split("."), prefix.split(".")
    common = next((i for i, part in enumerate(parts) if i >= len(shared) or shared[i] != part), 0)
    return ".".join(parts[common:])


def _is_bookkeeping(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor beside the network is a counter, or belongs to a training module."""
    return _is_counter(name, tensor, _COUNTERS | _COUNTERS_BESIDE) or _is_training_module(name)


def _is_counter(name: str, tensor: Tensor, counters: set[str]) -> bool:
    """Return whether the tensor is a single value with one of those names, in any module."""
    return name.rpartition(".")[2] in counters and tensor.numel() == 1


def _is_training_module(name: str) -> bool:
    """Return whether the name's first part is a training module."""
    return _BOOKKEEPING.fullmatch(name.partition(".")[0]) is not None


def _has_module_of(name: str, network_state: Iterable[str]) -> bool:
    """Return whether one of the network's own names has the same first part."""
    return any(key.startswith(f"{name.partition('.')[0]}.") for key in network_state)


def _name_unclear_tensors(weights: WeightSet, names: list[str]) -> WeightsMismatch:
    """Return the error for tensors that may or may not belong to the network."""
    return WeightsMismatch(
        f"The network's weights are under {weights.key!r}, but {len(names)} tensors are beside it: {_quote_names(names)}. If the "
        f"network does not need them, select its weights alone: weights_key {weights.key} "
        f"(--weights-key {weights.key})."
    )


def _quote_names(names: list[str]) -> str:
    """Return the first few names for a message."""
    more = f", … {len(names) - MAX_QUOTED} more" if len(names) > MAX_QUOTED else ""
    return ", ".join(name[:150] for name in names[:MAX_QUOTED]) + more


def _check_normalisation(name: str, tensor: Tensor, spec: ClassifierSpec) -> None:
    """Check that the file's mean or std equals the spec's. Raises: WeightsMismatch."""
    kind = NORMALISATION[name.rpartition(".")[2]]
    expected = torch.tensor(spec.mean if kind == "mean" else spec.std)
    actual = tensor.flatten().float()
    if actual.shape != expected.shape or not torch.allclose(actual, expected, rtol=0, atol=NORMALISATION_TOLERANCE):
        values = ", ".join(f"{value:.4g}" for value in actual[:4].tolist())
        stated = ", ".join(f"{value:.4g}" for value in expected.tolist())
        raise WeightsMismatch(
            f"The file normalises with {kind} ({values}) in {name!r}; the spec says {kind} ({stated})."
        )


def _check_names_and_shapes(
    tensors: Mapping[str, Tensor],
    network_state: Mapping[str, Tensor],
    spec: ClassifierSpec,
    extra_beside: Iterable[str] = (),
) -> None:
    """Check that all names are there and no others. Raises: WeightsMismatch naming the first misfits of each kind.

    Args:
        extra_beside: names beside the network. They are no misfit on their own, but a message lists them as unexpected.
    """
    misfitting = [
        name for name in sorted(network_state.keys() & tensors.keys()) if not _fits(tensors[name], network_state[name])
    ]
    misfits = {
        "missing": sorted(
            name for name in network_state.keys() - tensors.keys() if not name.endswith("num_batches_tracked")
        ),
        "unexpected": sorted(tensors.keys() - network_state.keys()),
        "of another shape or type": [
            f"{name} {_describe_misfit(tensors[name], network_state[name])}" for name in misfitting
        ],
    }
    if not any(misfits.values()):
        return
    misfits["unexpected"] += sorted(extra_beside)
    parts = [f"The weights do not fit {spec.architecture}."]
    for name in misfitting:
        own, stored = network_state[name].shape, tensors[name].shape
        if own[1:] == stored[1:] and own[:1] == (spec.num_classes,) != stored[:1] != ():
            parts.append(f"They have {stored[0]} classes; the spec says {spec.num_classes}.")
            break
    for name in misfitting:
        own, stored = network_state[name].shape, tensors[name].shape
        if _differ_only_in_channels(own, stored) and own[1] == spec.channels:
            parts.append(
                f"They take images of {stored[1]} channels; the spec says {spec.channels}, because mean has "
                f"{spec.channels} values and the number of means sets the channels. Give mean and std {stored[1]} values each."
            )
            break
    parts += [f"{len(names)} keys are {kind}: {_quote_names(names)}." for kind, names in misfits.items() if names]
    raise WeightsMismatch(" ".join(parts))


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    """Return whether the shape is that of `expected` and the type converts: any float to a float, any real to a counter."""
    if expected.ndim == 0 and not expected.is_floating_point():
        return tensor.numel() == 1 and not tensor.is_complex()
    return (
        tensor.shape == expected.shape
        and tensor.is_floating_point() == expected.is_floating_point()
        and not tensor.is_complex()
    )


def _describe_misfit(tensor: Tensor, expected: Tensor) -> str:
    """Return both shapes, or both types where the shapes are equal."""
    if tensor.shape != expected.shape:
        return f"{tuple(tensor.shape)} for {tuple(expected.shape)}"
    return f"{tensor.dtype} for {expected.dtype}".replace("torch.", "")
