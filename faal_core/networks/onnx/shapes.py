"""Operators of ONNX that make, move and select values."""

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.networks.onnx.table import Ints, UnsupportedNode, define, normalise_axis


@define("Concat")
def _concat(*values: Tensor, axis: int) -> Tensor:
    return torch.cat(values, axis)


@define("ConstantOfShape", 0)
def _constant_of_shape(shape: Ints, *, precision: torch.dtype, value: Tensor | None = None) -> Tensor:
    fill = 0.0 if value is None else value.reshape(-1)[0].item()
    dtype = precision if value is None or value.dtype is torch.float32 else value.dtype
    return torch.full(tuple(shape), fill, dtype=dtype)


@define("Expand", 1)
def _expand(x: Tensor, shape: Ints) -> Tensor:
    return x.broadcast_to(torch.broadcast_shapes(x.shape, tuple(shape)))


@define("Flatten")
def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis = axis if axis == x.ndim else normalise_axis(axis, x.ndim)
    return x.reshape(x.shape[:axis].numel(), -1)


@define("Gather")
def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = normalise_axis(axis, x.ndim)
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    return x.index_select(axis, indices.flatten()).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


@define("GatherElements")
def _gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    indices = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    return torch.gather(x, axis, indices)


@define("GatherND")
def _gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    if batch_dims:
        raise UnsupportedNode(f"batch_dims {batch_dims}")
    return x[_split_indices(x, indices)]


def _split_indices(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    """Return the indices for each of the first axes. Raises: UnsupportedNode for more than there are."""
    if not 1 <= indices.shape[-1] <= x.ndim:
        raise UnsupportedNode(f"indices of {indices.shape[-1]} axes of a tensor of {x.ndim} dimensions")
    return indices.unbind(-1)


@define("Pad", 1, 3)
def _pad(
    x: Tensor, pads: Ints, value: Tensor | None = None, axes: Ints | None = None, *, mode: str = "constant"
) -> Tensor:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise UnsupportedNode(f"mode {mode}")
    by_axis = [(0, 0)] * x.ndim
    for number, axis in enumerate(range(x.ndim) if axes is None else axes):
        by_axis[normalise_axis(axis, x.ndim)] = (pads[number], pads[number + len(pads) // 2])
    if mode != "constant" and not any(map(any, by_axis[:2])):
        by_axis = by_axis[2:]  # torch pads no others in these modes
    flat = [one for pair in reversed(by_axis) for one in pair]
    # The fill is almost always absent or a constant; `item` reads it from a graph's small constants.
    return functional.pad(x, flat, mode=modes[mode], value=0.0 if value is None else _read_number(value))


def _read_number(value: Tensor) -> float:
    """Return the only value. Raises: UnsupportedNode where it depends on pixels."""
    if value.is_meta:
        raise UnsupportedNode("a fill that is no constant")
    return float(value.reshape(-1)[0].item())


@define("Range", 0, 1, 2)
def _range(start: float, limit: float, delta: float, *, precision: torch.dtype) -> Tensor:
    is_whole = all(isinstance(one, int) for one in (start, limit, delta))
    return torch.arange(start, limit, delta, dtype=torch.int64 if is_whole else precision)


@define("Reshape", 1)
def _reshape(x: Tensor, shape: Ints, *, allowzero: int = 0, any_batch: bool = False) -> Tensor:
    shape = [x.shape[place] if size == 0 and not allowzero else size for place, size in enumerate(shape)]
    if any_batch and shape[:1] == [1]:
        shape[0] = x.shape[0]
    return x.reshape(shape)


@define("ScatterND")
def _scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    if reduction != "none":
        raise UnsupportedNode(f"reduction {reduction}")
    return torch.index_put(x, _split_indices(x, indices), updates)


@define("Shape")
def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device="cpu")


@define("Slice", 1, 2, 3, 4)
def _slice(x: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Tensor:
    axes = range(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        if step == 0:
            raise UnsupportedNode("a step of 0")
        place = normalise_axis(axis, x.ndim)
        rows = range(*slice(start, end, step).indices(x.shape[place]))
        forward = slice(min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1, abs(step)) if rows else slice(0)
        x = x[(slice(None),) * place + (forward,)]
        if step < 0:
            x = x.flip(place)
    return x


@define("Split", 1)
def _split(
    x: Tensor, sizes: Ints | None = None, *, outputs: int, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    if sizes is None:
        whole = -(-x.shape[axis] // outputs)
        sizes = [whole] * (outputs - 1) + [x.shape[axis] - whole * (outputs - 1)]
    return torch.split(x, list(sizes), axis)


@define("Squeeze", 1)
def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    axes = [axis for axis, size in enumerate(x.shape) if size == 1] if axes is None else axes
    if any(x.shape[axis] != 1 for axis in axes):
        raise UnsupportedNode(f"axes {list(axes)} of a tensor of shape {tuple(x.shape)}")
    return x.squeeze(tuple(axes))


@define("Tile", 1)
def _tile(x: Tensor, repeats: Ints) -> Tensor:
    return x.repeat(tuple(repeats))


@define("Transpose")
def _transpose(x: Tensor, *, perm: Ints | None = None) -> Tensor:
    return x.permute(tuple(reversed(range(x.ndim))) if perm is None else tuple(perm))


@define("Unsqueeze", 1)
def _unsqueeze(x: Tensor, axes: Ints) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(normalise_axis(axis, rank) for axis in axes):
        x = x.unsqueeze(axis)
    return x
