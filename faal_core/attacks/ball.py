"""Define the set that an attack may search: the ball around an image, cut with the pixel box [0, 1]."""

import torch
from torch import Tensor

from faal_core.attacks.randomness import RandomSource
from faal_core.classifier import Images, PerImage
from faal_core.threat_model import Norm, ThreatModel

# Images are often channels-last: reductions name their dimensions, because `flatten` would copy. Masks are numbers
# combined by `lerp`, because `where` is several times slower on a CPU.


def norms(delta: Tensor, norm: Norm) -> PerImage:
    """Return the norm of each image's perturbation."""
    return delta.abs().amax((1, 2, 3)) if norm is Norm.LINF else torch.linalg.vector_norm(delta, dim=(1, 2, 3))


def inner_product(a: Images, b: Images) -> PerImage:
    """Return the inner product of each image of `a` with the same image of `b`."""
    return (a * b).sum((1, 2, 3))


def expand(per_image: PerImage) -> Tensor:
    """Return one number per image in shape `n 1 1 1`, which multiplies images."""
    return per_image.view(-1, 1, 1, 1)


def normalise(delta: Tensor, norm: Norm) -> Tensor:
    """Return each image's perturbation scaled to norm 1; a zero perturbation stays zero."""
    return delta / expand(norms(delta, norm).clamp_min(1e-12))


class Ball:
    """Holds all images within the threat model of each image of a batch; for L∞ those between `low` and `high`.

    Args:
        x: centres of the balls, `n c h w`, pixels in [0, 1].
        scale: one radius per image, in multiples of ε; all radii are ε when absent.
    """

    def __init__(self, x: Images, threat: ThreatModel, scale: PerImage | None = None) -> None:
        self.x, self.norm, self.epsilon = x, threat.norm, threat.epsilon
        self.radius: float | Tensor = self.epsilon if scale is None else self.epsilon * expand(scale)
        if self.norm is Norm.LINF:
            self.low, self.high = (x - self.radius).clamp_(min=0), (x + self.radius).clamp_(max=1)

    def subset(self, indices: Tensor) -> "Ball":
        """Return the balls around the images at `indices`."""
        selected = object.__new__(Ball)
        selected.x, selected.norm, selected.epsilon = self.x[indices], self.norm, self.epsilon
        selected.radius = self.radius[indices] if isinstance(self.radius, Tensor) else self.radius
        if self.norm is Norm.LINF:
            selected.low, selected.high = self.low[indices], self.high[indices]
        return selected

    def project(self, x_adv: Images) -> Images:
        """Move `x_adv` in place into the balls and into [0, 1], and return it.

        For L∞ the result is the nearest point. For L2 the perturbation is shortened first, and the pixels are clipped
        after that. Clipping towards an x inside the box only shortens the perturbation, so the result is in both sets.
        It need not be the nearest such point.
        """
        if self.norm is Norm.LINF:
            return torch.clamp(x_adv, self.low, self.high, out=x_adv)
        delta = x_adv.sub_(self.x)
        shrink = (self.radius / expand(norms(delta, self.norm)).clamp_min(1e-12)).clamp_max(1)
        return delta.mul_(shrink).add_(self.x).clamp_(0, 1)

    def step(self, x_adv: Images, gradient: Images, step_size: float | Tensor) -> Images:
        """Return `x_adv` after one step of projected gradient ascent, detached from the graph.

        Args:
            gradient: of the loss to raise; its negative lowers the loss.
            step_size: norm of the step, in pixel units of [0, 1]: one number, or one per image in the shape of `expand`.
        Source: Madry et al. 2018, eq. 3; for L2 the step follows the normalised gradient.
        """
        return self.project(x_adv.detach() + step_size * direction(gradient, self.norm))

    def draw_point(self, random: RandomSource) -> Images:
        """Draw a point uniformly from each ball, then clip it to [0, 1]."""
        noise = self._draw_noise(random)
        if self.norm is Norm.L2:
            radius = random.uniform(len(noise)).pow(1 / noise[0].numel())
            noise = normalise(noise, self.norm) * expand(radius)
        return (self.x + self.radius * noise).clamp_(0, 1)

    def draw_edge_point(self, random: RandomSource, fraction: float = 1.0) -> Images:
        """Draw a point at `fraction` of the radius in a random direction, then clip it to [0, 1].

        The direction comes from uniform pixels for L∞, from normal pixels for L2.
        """
        return (self.x + fraction * self.radius * normalise(self._draw_noise(random), self.norm)).clamp_(0, 1)

    def _draw_noise(self, random: RandomSource) -> Tensor:
        """Draw pixels: uniform on [−1, 1) for L∞, standard normal for L2."""
        return random.uniform(*self.x.shape) * 2 - 1 if self.norm is Norm.LINF else random.normal(*self.x.shape)


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the perturbation of norm 1 that raises a loss with this gradient fastest."""
    return gradient.sign() if norm is Norm.LINF else normalise(gradient, norm)
