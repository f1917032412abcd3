"""Check that a network can be audited, before anything is computed with it."""

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from faal_core.catalog.onnx_format import ONNX
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable, InvalidSpec
from faal_core.specs import FinetuneSpec

_PROBED = 16  # images whose outputs are looked at before anything is computed


def check_network(classifier: Classifier) -> None:
    """Check that the network has all its weights, in dense tensors, and takes hooks. Raises: ClassifierUnsuitable."""
    if any(is_lazy(one) for one in (*classifier.parameters(), *classifier.buffers())):
        raise ClassifierUnsuitable(
            "The network has weights without a shape. Pass a batch through it once, and wrap it then."
        )
    if any(one.is_inference() for one in (*classifier.parameters(), *classifier.buffers())):
        raise ClassifierUnsuitable(
            "The network's weights were made in torch.inference_mode(), so they take no gradients. Build it outside of that mode."
        )
    try:
        for module in classifier.modules():
            module.register_forward_hook(lambda *_: None).remove()
    except RuntimeError:
        raise ClassifierUnsuitable(
            "The network is a ScriptModule, which takes no hooks. Wrap the module from which torch.jit.script made it."
        ) from None


def check_trainable(classifier: Classifier, spec: FinetuneSpec) -> None:
    """Check that the network can be copied and, if the spec has epochs, trained. Raises: ClassifierUnsuitable, InvalidSpec."""
    if classifier.spec.architecture == ONNX:
        raise InvalidSpec(
            "A network of an ONNX file can be audited but not fine-tuned. Fine-tune the PyTorch network that was exported."
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in classifier.modules()):
        raise ClassifierUnsuitable(
            "The network is a ScriptModule, which cannot be fine-tuned. Wrap the module behind it."
        )
    if spec.epochs and not any(weight.requires_grad for weight in classifier.parameters()):
        raise ClassifierUnsuitable(
            "No weights of the network require a gradient, so none can be trained. Call requires_grad_(), or "
            "choose the method head, which trains nothing."
        )


@torch.no_grad()
def require_logits(classifier: Classifier, data: LabelledImages) -> None:
    """Check that the network accepts images alone, and that its outputs are no probabilities.

    Raises: ClassifierUnsuitable.
    """
    x = data.pixels(torch.arange(min(_PROBED, len(data))), classifier.device)
    classifier.choose_layout(x)
    try:
        outputs: Tensor = classifier(classifier.lay_out(x))
    except TypeError as error:
        raise ClassifierUnsuitable(f"The network does not accept images alone: {str(error)[:200]}.") from error
    except (RuntimeError, ValueError, AssertionError):
        return  # the audit itself explains it
    if outputs.ndim == 2 and bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all()):
        raise ClassifierUnsuitable(
            "The network returns probabilities: its outputs are not negative and their sum is 1. Wrap a module that returns "
            "logits, without the last softmax. Attacks on probabilities find too few adversarial images."
        )
