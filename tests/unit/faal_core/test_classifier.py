"""Test the classifier's normalisation and memory layout."""

import pytest
import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.specs import ClassifierSpec

SPEC = ClassifierSpec(architecture="small_resnet", num_classes=3, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))


def test_normalises_each_channel() -> None:
    """The backbone receives (x - mean) / std, channel by channel."""
    classifier = Classifier(nn.Flatten(), SPEC)
    x = torch.tensor([1.0, 0.5, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(classifier(x), torch.tensor([[1.0, 1.0, 0.5]]))


def test_gradients_are_with_respect_to_pixels() -> None:
    """The gradient of a logit is that of the backbone divided by std: an attack's steps are in pixels."""
    x = torch.full((1, 3, 1, 1), 0.5, requires_grad=True)
    Classifier(nn.Flatten(), SPEC)(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([2.0, 4.0, 0.5]).view(1, 3, 1, 1))


def test_keeps_normalisation_out_of_the_weights() -> None:
    """The state dict holds the backbone alone: mean and std belong to the spec."""
    classifier = Classifier(nn.Linear(2, 3), SPEC)
    assert set(classifier.state_dict()) == {"backbone.weight", "backbone.bias"}
    assert classifier.num_classes == 3


def test_device_follows_the_weights() -> None:
    """`device` follows the weights, and normalisation moves with them."""
    classifier = Classifier(nn.Linear(2, 3), SPEC).to("meta")
    assert classifier.device == classifier.mean.device == classifier.std.device == torch.device("meta")


def strided_shortcut(channels: int) -> nn.Sequential:
    """Return a strided 1 × 1 convolution of that many channels and a linear layer."""
    return nn.Sequential(nn.Conv2d(channels, 8, 1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("channels", [3, 8, 15])
def test_layout_avoids_the_convolution_that_corrupts_memory(channels: int) -> None:
    """Channels-last is not chosen for strided 1 × 1 convolutions of fewer than 16 channels; training one does no harm.

    It is trained on two threads and batches of 63, where channels-last ends the process on CPUs with AVX-512.
    """
    assert Classifier(strided_shortcut(16), SPEC).layout is torch.channels_last
    classifier = Classifier(strided_shortcut(channels), SPEC)
    assert classifier.layout is torch.contiguous_format
    network, threads = classifier.place(torch.device("cpu")).backbone, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(40):
            x = torch.rand(63, channels, 14, 14).contiguous(memory_format=classifier.layout).requires_grad_()
            network(x).square().mean().backward()
    finally:
        torch.set_num_threads(threads)


def test_images_of_one_channel_are_laid_out_too() -> None:
    """Images of one channel get the layout's strides, which convolutions use, although both layouts are contiguous."""
    x = torch.rand(2, 12, 12, 1).permute(0, 3, 1, 2)
    first = nn.Conv2d(1, 3, 3)
    spec = ClassifierSpec(architecture="small_resnet", num_classes=3)
    classifier = Classifier(nn.Sequential(first, *strided_shortcut(3)), spec).place(torch.device("cpu"))
    assert classifier.layout is torch.contiguous_format
    assert not first(x).is_contiguous()
    assert first(classifier.lay_out(x)).is_contiguous()
