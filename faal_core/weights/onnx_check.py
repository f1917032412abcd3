"""Check a converted ONNX network: its logits against onnxruntime, and its input gradients against differences.

onnxruntime computes no gradients. So the check has two parts, each to a relative 1e-4. The logits equal onnxruntime's on random
images and on perturbed ones, in batches of one and two. In double precision, the derivative that torch computes along a
direction equals the difference quotient of the same network.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faal_core.errors import WeightsUnreadable
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.networks.onnx.description import Graph
from faal_core.networks.onnx.graph import OnnxNetwork
from faal_core.weights.onnx_file import import_onnx

TOLERANCE = 1e-4  # of logits relative to the largest (at least 1), of derivatives relative to the gradient's length
_IMAGES = 2
_SMALL = 20_000_000  # weights; the gradients of larger networks are checked for one image only, to save time
_STEP = 1e-6  # of the difference quotient, relative to pixels of deviation 1; double precision has 1e-16
_PERTURBATION = 0.03  # 8/255
_SEED = 24
_QUIET = 4  # onnxruntime's level of fatal errors


def check_conversion(network: OnnxNetwork, graph: Graph, content: bytes) -> int:
    """Check that the network computes what the file says, and return its number of logits.

    Raises: WeightsUnreadable; InvalidSpec without onnxruntime.

    Cost: nine forward passes of an image in single precision; in double precision three and a backward pass, three times as many
        for a network of at most `_SMALL` weights.
    """
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randn(_IMAGES, *graph.image_shape, generator=generator)
    perturbed = images + _PERTURBATION * torch.randn(images.shape, generator=generator).sign()
    session = _open_session(content)
    try:
        expected = [_run(session, graph, x) for x in (images, perturbed)]
    finally:
        del session
    with torch.no_grad():
        actual = [_compute(network, images), _compute(network, perturbed)]
        alone = _compute(network, images[:1])
    pairs = [*zip(actual, expected, strict=True), (alone, expected[0][:1])]
    for ours, theirs in pairs:
        if ours.shape != theirs.shape or not bool(ours.isfinite().all() and theirs.isfinite().all()):
            raise _differ(
                f"its outputs of shape {tuple(ours.shape)} are not finite or not of shape {tuple(theirs.shape)}"
            )
        difference = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
        if difference > TOLERANCE:
            raise _differ(f"its logits differ by a relative {difference:.2g}")
    exact = copy.deepcopy(network).double()
    is_small = sum(one.numel() for one in network.parameters()) <= _SMALL
    for batch in (
        (images[:1], images) if is_small else (images[:1],)
    ):  # torch chooses its algorithms by the batch's size
        _check_gradients(exact, batch.double(), generator)
    return alone.shape[1]


def _open_session(content: bytes) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return a session that computes the file as it is written, in one thread. Raises: WeightsUnreadable, InvalidSpec."""
    onnxruntime = import_onnx("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - neither package documents its exceptions
        require_memory(error, "to open the ONNX file")
        raise WeightsUnreadable(f"onnxruntime does not accept the ONNX file: {str(error)[:500]}") from None


def _run(session: Any, graph: Graph, images: Tensor) -> Tensor:  # noqa: ANN401
    """Return onnxruntime's logits, image by image: in a batch of equal images where the file has a fixed batch."""
    rows = []
    for image in images:
        batch = image.expand(graph.batch or 1, *image.shape).contiguous().numpy()
        try:
            (logits,) = session.run([graph.output], {graph.input: batch})
        except Exception as error:  # noqa: BLE001 - neither package documents its exceptions
            require_memory(error, "to compute the ONNX file")
            raise WeightsUnreadable(f"onnxruntime cannot compute the ONNX file: {str(error)[:500]}") from None
        rows.append(np.atleast_2d(logits)[:1])
    return torch.from_numpy(np.concatenate(rows))


def _compute(network: OnnxNetwork, images: Tensor) -> Tensor:
    """Return the network's logits. Raises: WeightsUnreadable where torch cannot compute them."""
    try:
        return network(images)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        require_memory(error, "to compute the ONNX network")
        raise WeightsUnreadable(
            f"The network in the ONNX file cannot compute {len(images)} images: {str(error)[:300]}"
        ) from error


def _check_gradients(exact: OnnxNetwork, images: Tensor, generator: torch.Generator) -> None:
    """Check derivatives along the gradient plus a random direction of the same length. Raises: WeightsUnreadable.

    Args:
        exact: the network in double precision, as the images are.
    """
    x = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = _compute(exact, x)
        weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        if not logits.requires_grad:
            raise _differ("no gradient flows from its logits to its input")
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    random = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    unit = random / random.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    direction = gradient / length.clamp(min=torch.finfo(torch.float64).tiny) + unit
    with torch.no_grad():
        sides = [(_compute(exact, x + sign * _STEP * direction) * weights).sum(1) for sign in (1, -1)]
    quotient = (sides[0] - sides[1]) / (2 * _STEP)
    derivative = (gradient * direction).flatten(1).sum(1)
    # Rounding in the logits, divided by the step, hides derivatives that are far smaller than the logits.
    noise = 1e-14 * logits.detach().abs().amax(1) / _STEP
    difference = ((quotient - derivative).abs() - noise).clamp(min=0) / length.flatten().clamp(min=1e-30)
    if not bool((difference <= TOLERANCE).all()):
        raise _differ(
            f"its input gradients deviate from difference quotients by {float(difference.max()):.2g} of their length"
        )


def _differ(what: str) -> WeightsUnreadable:
    """Return the error for a network that was converted wrongly."""
    return WeightsUnreadable(
        f"The network in the ONNX file was converted incorrectly: {what}. Audit the network in PyTorch "
        "instead, with Classifier.wrap or --network."
    )
