"""The set an attack may search: the ball around an image, cut with the pixel box [0, 1]."""

import torch
from torch import Tensor

from faal_core.classifier import Images, PerImage
from faal_core.threat_model import Norm, ThreatModel


def norms(delta: Tensor, norm: Norm) -> PerImage:
    """The norm of each image's perturbation."""
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm is Norm.LINF else flat.norm(dim=1)


def expand(per_image: PerImage) -> Tensor:
    """One number an image, shaped to multiply images."""
    return per_image.view(-1, 1, 1, 1)


def project(x_adv: Images, x: Images, threat: ThreatModel) -> Images:
    """`x_adv` brought into the ball around x and into [0, 1].

    For L∞ the nearest point. For L2 the perturbation is shortened first and clipped to the pixels after: clipping towards
    an x inside the box only shortens it, so the result lies in both, though it need not be the nearest such point.
    """
    if threat.norm is Norm.LINF:
        return torch.min(torch.max(x_adv, x - threat.epsilon), x + threat.epsilon).clamp_(0, 1)
    delta = x_adv - x
    shrink = (threat.epsilon / norms(delta, threat.norm).clamp_min(1e-12)).clamp_max(1)
    return (x + delta * expand(shrink)).clamp_(0, 1)


def random_start(x: Images, threat: ThreatModel, generator: torch.Generator) -> Images:
    """A point drawn uniformly from each image's ball, then clipped to [0, 1]."""
    if threat.norm is Norm.LINF:
        noise = torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1
        return (x + threat.epsilon * noise).clamp_(0, 1)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    radius = torch.rand(len(x), generator=generator, device=x.device).pow(1 / x[0].numel())
    scale = threat.epsilon * radius / norms(noise, threat.norm)
    return (x + noise * expand(scale)).clamp_(0, 1)


def ascend(x_adv: Images, gradient: Tensor, step: float, norm: Norm) -> Images:
    """`x_adv` moved by `step` in the direction that raises a loss fastest, by its gradient, in that norm."""
    if norm is Norm.LINF:
        return x_adv + step * gradient.sign()
    return x_adv + gradient * expand(step / norms(gradient, norm).clamp_min(1e-12))
