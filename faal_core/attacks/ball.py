"""The set an attack may search: the ball around an image, cut with the pixel box [0, 1]."""

import torch
from torch import Tensor

from faal_core.attacks.randomness import RandomSource
from faal_core.classifier import Images, PerImage
from faal_core.threat_model import Norm, ThreatModel

# Images often lie channels-last: reductions name their dimensions, since `flatten` would copy, and masks are numbers and
# `lerp`, since `where` is several times slower on a CPU.


def norms(delta: Tensor, norm: Norm) -> PerImage:
    """The norm of each image's perturbation."""
    return delta.abs().amax((1, 2, 3)) if norm is Norm.LINF else torch.linalg.vector_norm(delta, dim=(1, 2, 3))


def inner(a: Images, b: Images) -> PerImage:
    """The inner product of each image of `a` with its counterpart."""
    return (a * b).sum((1, 2, 3))


def expand(per_image: PerImage) -> Tensor:
    """One number an image, shaped to multiply images."""
    return per_image.view(-1, 1, 1, 1)


def normalised(delta: Tensor, norm: Norm) -> Tensor:
    """Each image's perturbation scaled to norm 1; a zero stays zero."""
    return delta / expand(norms(delta, norm).clamp_min(1e-12))


class Ball:
    """All images within the threat model of each image of a batch; for L∞ those between `low` and `high`.

    Args:
        reach: multiples of ε, one an image, where radii differ.
    """

    def __init__(self, x: Images, threat: ThreatModel, reach: PerImage | None = None) -> None:
        self.x, self.norm, self.epsilon = x, threat.norm, threat.epsilon
        self.radius: float | Tensor = self.epsilon if reach is None else self.epsilon * expand(reach)
        if self.norm is Norm.LINF:
            self.low, self.high = (x - self.radius).clamp_(min=0), (x + self.radius).clamp_(max=1)

    def of(self, kept: Tensor) -> "Ball":
        """The balls around those images."""
        part = object.__new__(Ball)
        part.x, part.norm, part.epsilon = self.x[kept], self.norm, self.epsilon
        part.radius = self.radius[kept] if isinstance(self.radius, Tensor) else self.radius
        if self.norm is Norm.LINF:
            part.low, part.high = self.low[kept], self.high[kept]
        return part

    def project(self, x_adv: Images) -> Images:
        """`x_adv` itself, brought into the balls and into [0, 1].

        For L∞ the nearest point. For L2 the perturbation is shortened first and clipped to the pixels after: clipping
        towards an x inside the box only shortens it, so the result lies in both, though it need not be the nearest such point.
        """
        if self.norm is Norm.LINF:
            return torch.clamp(x_adv, self.low, self.high, out=x_adv)
        delta = x_adv.sub_(self.x)
        shrink = (self.radius / expand(norms(delta, self.norm)).clamp_min(1e-12)).clamp_max(1)
        return delta.mul_(shrink).add_(self.x).clamp_(0, 1)

    def random_point(self, random: RandomSource) -> Images:
        """A point drawn uniformly from each ball, then clipped to [0, 1]."""
        noise = self._noise(random)
        if self.norm is Norm.L2:
            radius = random.uniform(len(noise)).pow(1 / noise[0].numel())
            noise = normalised(noise, self.norm) * expand(radius)
        return (self.x + self.radius * noise).clamp_(0, 1)

    def random_edge_point(self, random: RandomSource, share: float = 1.0) -> Images:
        """A point at `share` of the radius in a random direction (uniform pixels for L∞, normal for L2), clipped to [0, 1]."""
        return (self.x + share * self.radius * normalised(self._noise(random), self.norm)).clamp_(0, 1)

    def _noise(self, random: RandomSource) -> Tensor:
        """Uniform on [−1, 1) for L∞, standard normal for L2."""
        return random.uniform(*self.x.shape) * 2 - 1 if self.norm is Norm.LINF else random.normal(*self.x.shape)


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The perturbation of norm 1 that raises a loss of that gradient fastest."""
    return gradient.sign() if norm is Norm.LINF else normalised(gradient, norm)
