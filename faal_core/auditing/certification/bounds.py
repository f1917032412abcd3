"""Bound the margins of images over a threat model from below: intervals forward, linear functions back (CROWN)."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from faal_core.auditing.certification.graph import Step
from faal_core.auditing.certification.layers import ROUNDING, Box, Rectified, apply_functions
from faal_core.classifier import Images, Labels, PerImage
from faal_core.threat_model import Norm, ThreatModel

_NUMBERS = 2**19  # of the coefficients that are computed at a time: 2 MiB in float32
_UNLIMITED = 2**62
_SLACK = 1e-5  # relative rounding error that a bound allows for: some 80 times float32's machine epsilon


class MarginBounds:
    """Bounds margins of one network, in float32.

    Args:
        steps: the network, from `graph.trace`.
        threat: the perturbations that the bounds allow for.
        rows: for each image, the most linear functions that may be pulled back to tighten the bounds before its ReLUs; without
            any, these bounds are intervals.
        norm_rows: most linear functions that may be pulled back, once for all images, for exact bounds before the first ReLUs
            in L2.

    Attributes:
        pulled: number of functions that were pulled back so far, for each image that they were pulled back for.
    """

    def __init__(self, steps: tuple[Step, ...], threat: ThreatModel, rows: int, norm_rows: int = _UNLIMITED) -> None:
        self._steps, self._threat, self.rows, self._norm_rows = steps, threat, rows, norm_rows
        self._affine: set[int] = {-1}
        for number, step in enumerate(steps):
            if step.layer.is_affine and self._affine.issuperset(step.inputs):
                self._affine.add(number)
        rectified = {source for step in steps if isinstance(step.layer, Rectified) for source in step.inputs}
        self._rectified, self._first = rectified - self._affine, rectified & self._affine
        self._norms: dict[int, Tensor] = {}
        self.pulled = 0

    def limit_rows(self, rows: int) -> "MarginBounds":
        """Return these bounds with another limit of `rows`; they share the norms that are computed once."""
        limited = copy.copy(self)
        limited.rows = rows
        return limited

    def count_numbers(self, x: Images) -> int:
        """Return how many numbers the outputs of all steps have for one image. Raises: as the operations of the network do."""
        boxes = {-1: Box(x[:1], x[:1])}
        for number, step in enumerate(self._steps):
            boxes[number] = step.layer.bound(*(boxes[source] for source in step.inputs))
        return sum(box.low.numel() for box in boxes.values())

    def evaluate(self, x: Images) -> Tensor:
        """Return the logits of the images, `n k`, as the steps compute them."""
        boxes = {-1: Box(x, x)}
        for number, step in enumerate(self._steps):
            boxes[number] = step.layer.bound(*(boxes[source] for source in step.inputs))
        last = boxes[len(self._steps) - 1]
        return (last.low + last.high) / 2

    def bound(self, x: Images, y: Labels) -> PerImage:
        """Return a lower bound of z_y − max z_t for each image, over all images that the threat model allows.

        Args:
            x: `n c h w`, pixels in [0, 1], on the CPU.
        Raises: ValueError, RuntimeError for shapes that have no bounds.
        Source: interval bounds (Gowal et al. 2018, arXiv 1810.12715) and CROWN's backward bounds (Zhang et al. 2018, arXiv
            1811.00866). Differs: intervals are tightened only where the sign before a ReLU is unknown.
        """
        epsilon = self._threat.epsilon
        boxes = {-1: Box((x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1))}
        left = torch.full((len(x),), self.rows)
        for number, step in enumerate(self._steps):
            boxes[number] = step.layer.bound(*(boxes[source] for source in step.inputs))
            if number in self._first and self._threat.norm is Norm.L2:
                boxes[number] = self._tighten_affine(number, x, boxes)
            if number in self._rectified:
                boxes[number] = self._tighten(number, x, boxes, left)
        last = len(self._steps) - 1
        identity = torch.eye(boxes[last].low.shape[1], dtype=x.dtype)
        others = torch.stack([torch.cat([identity[:label], identity[label + 1 :]]) for label in y])
        return self._lower_bounds(last, identity[y].unsqueeze(1) - others, x, boxes).amin(1)

    def _tighten(self, number: int, x: Images, boxes: dict[int, Box], left: Tensor) -> Box:
        """Return tighter bounds where the sign is unknown, of the images that have rows left; count these rows."""
        shape = boxes[number].low.shape
        low, high = (bound.flatten(1).clone() for bound in boxes[number])
        for image, unstable in enumerate((low < 0) & (high > 0)):
            places = unstable.nonzero().squeeze(1)
            if not 0 < 2 * len(places) <= left[image]:
                continue
            left[image] -= 2 * len(places)
            one = {step: box.select(slice(image, image + 1)) for step, box in boxes.items()}
            for part in places.split(self._count(boxes)):
                functions = x.new_zeros(len(part), shape[1:].numel()).scatter_(1, part.unsqueeze(1), 1)
                functions = functions.view(1, len(part), *shape[1:])
                below = self._lower_bounds(number, functions, x[image : image + 1], one)[0]
                above = -self._lower_bounds(number, -functions, x[image : image + 1], one)[0]
                low[image, part] = torch.maximum(low[image, part], below)
                high[image, part] = torch.minimum(high[image, part], above)
        return Box(low.view(shape), high.view(shape))

    def _tighten_affine(self, number: int, x: Images, boxes: dict[int, Box]) -> Box:
        """Return the exact L2 bounds of an affine function of the image, cut with the interval.

        The norms of its rows are the same for every image, and are computed once.
        """
        low, high = boxes[number]
        if number not in self._norms:
            if low[0].numel() > self._norm_rows - sum(norms.numel() for norms in self._norms.values()):
                return boxes[number]
            one = {step: box.select(slice(1)) for step, box in boxes.items()}
            self._norms[number] = torch.cat(list(self._row_norms(number, x, one))).view(low.shape[1:])
            self.pulled += self._norms[number].numel()
        steps = self._steps[: number + 1]
        centre = MarginBounds(steps, self._threat, 0).evaluate(x)
        radius = (1 + ROUNDING) * self._threat.epsilon * self._norms[number]
        exact = Box(centre, centre).widen(radius + ROUNDING * (low.abs() + high.abs()))
        return Box(torch.maximum(low, exact.low), torch.minimum(high, exact.high))

    def _row_norms(self, number: int, x: Images, boxes: dict[int, Box]) -> Iterator[Tensor]:
        """Return the L2 norm of each output's gradient with respect to the image, part by part."""
        shape = boxes[number].low.shape[1:]
        for part in torch.arange(shape.numel()).split(self._count(boxes)):
            functions = x.new_zeros(len(part), shape.numel()).scatter_(1, part.unsqueeze(1), 1)
            coefficients, *_ = self._pull(number, functions.view(1, len(part), *shape), boxes)
            yield coefficients[0].flatten(1).norm(dim=1)

    def _lower_bounds(self, number: int, functions: Tensor, x: Images, boxes: dict[int, Box]) -> Tensor:
        """Return a lower bound, `n m`, over the threat model of each linear function, `n m …`, of a step's output."""
        count, (images, rows) = self._count(boxes), functions.shape[:2]
        if images > 1 and images * rows > count:
            size = max(count // rows, 1)
            parts = [slice(first, first + size) for first in range(0, images, size)]
            return torch.cat(
                [
                    self._lower_bounds(
                        number, functions[part], x[part], {step: box.select(part) for step, box in boxes.items()}
                    )
                    for part in parts
                ]
            )
        if rows > count:
            return torch.cat([self._lower_bounds(number, part, x, boxes) for part in functions.split(count, dim=1)], 1)
        coefficients, constant, magnitude = self._pull(number, functions, boxes)
        self.pulled += functions.shape[:2].numel()
        bound = boxes[-1].lower_bound(coefficients)
        rounding = _SLACK * (coefficients.abs().flatten(2).sum(2) + magnitude)
        if self._threat.norm is Norm.L2:
            norms = coefficients.flatten(2).norm(dim=2)
            bound = torch.maximum(bound, apply_functions(coefficients, x) - self._threat.epsilon * norms)
        return bound + constant - rounding

    def _pull(self, number: int, functions: Tensor, boxes: dict[int, Box]) -> tuple[Tensor, Tensor, Tensor]:
        """Return linear functions of the image, `n m c h w`, and constants, that bound functions of a step's output from below.

        The last result is the sum of the magnitudes that the constants are added up from.
        """
        waiting, constant = {number: functions}, functions.new_zeros(functions.shape[:2])
        magnitude = constant
        for place in range(number, -1, -1):
            if place not in waiting:
                continue
            step = self._steps[place]
            inputs = tuple(boxes[source] for source in step.inputs)
            pulled = step.layer.pull(waiting.pop(place), boxes[place], inputs)
            constant = constant + pulled.constant
            magnitude = magnitude + pulled.magnitude
            for source, coefficients in zip(step.inputs, pulled.coefficients, strict=False):
                waiting[source] = waiting[source] + coefficients if source in waiting else coefficients
        absent = functions.new_zeros(*functions.shape[:2], *boxes[-1].low.shape[1:])
        return waiting.get(-1, absent), constant, magnitude

    def _count(self, boxes: dict[int, Box]) -> int:
        """Return the number of functions to pull back at a time."""
        return max(_NUMBERS // max(box.low[0].numel() for box in boxes.values()), 1)
