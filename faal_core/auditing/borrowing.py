"""Compute with a network of the caller, and give it back as it was."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

import torch
from torch import nn

from faal_core.auditing.suitability import check_network
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec

_locks: WeakKeyDictionary[nn.Module, AbstractContextManager[bool]] = WeakKeyDictionary()
_locks_guard = Lock()


@contextmanager
def borrow(classifier: Classifier, channels: int) -> Iterator[None]:
    """Compute gradients of the network alone among all threads, and restore it at the end.

    Modes, devices, memory layouts and gradients of the weights are restored. After an error the single mean and std are too.

    Args:
        channels: of the images, to which a single mean and std apply.
    Raises: InvalidSpec in inference mode; ClassifierUnsuitable for a network that cannot be audited.
    """
    if torch.is_inference_mode_enabled():
        raise InvalidSpec("The computation needs gradients. Call it outside of torch.inference_mode().")
    with _lock_of(classifier.backbone), torch.enable_grad():
        check_network(classifier)
        spec, modes = classifier.spec, {module: module.training for module in classifier.modules()}
        tensors = _Tensors(classifier)
        try:
            classifier.adapt_to_channels(channels)
            yield
        except BaseException:
            classifier.spec = spec
            raise
        finally:
            tensors.restore()
            for module, is_training in modes.items():
                module.training = is_training


def _lock_of(network: nn.Module) -> AbstractContextManager[bool]:
    """Return the lock of that network, which all its classifiers share."""
    with _locks_guard:
        return _locks.setdefault(network, RLock())


class _Tensors:
    """Remembers the tensors of a classifier, and puts them back where a move has replaced them."""

    def __init__(self, classifier: Classifier) -> None:
        self._weights = [(weight, weight.data) for weight in classifier.parameters()]
        self._gradients = [
            (weight, weight.grad, weight.grad.data) for weight in classifier.parameters() if weight.grad is not None
        ]
        self._buffers = [
            (module, name, buffer)
            for module in classifier.modules()
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
        ]

    def restore(self) -> None:
        """Put the tensors back."""
        for weight, values in self._weights:
            weight.grad = None
            weight.data = values
        for weight, gradient, values in self._gradients:
            gradient.data = values
            weight.grad = gradient
        for module, name, buffer in self._buffers:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
