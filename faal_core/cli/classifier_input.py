"""The classifier that the options name: weights in a file, and a network of the catalog or of the user's own code."""

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer

from faal_core.catalog.onnx_format import ONNX, is_onnx
from faal_core.cli.specs import classifier_spec

if TYPE_CHECKING:
    from torch import nn

    from faal_core.classifier import Classifier
    from faal_core.specs import ClassifierDescription

OPTION = "--network"


class ClassifierOptions:
    """The options about a classifier, checked before anything large is imported.

    Args:
        weights, key: as `--weights` and `--weights-key`.
        network: as `--network`: `FILE.py:NAME` or `MODULE:NAME`.
        architecture, num_classes, mean, std, arguments: as the options of these names.
    Raises: typer.BadParameter for options that do not go together; typer.Exit(2) after errors were printed.
    """

    def __init__(
        self,
        context: typer.Context,
        *,
        weights: Path | None,
        key: str | None,
        network: str | None,
        architecture: str | None,
        num_classes: int | None,
        mean: str | None,
        std: str | None,
        arguments: list[str] | None,
    ) -> None:
        if weights is None and network is None:
            raise typer.BadParameter("pass --weights FILE, or --network FILE.py:NAME for code that builds your network")
        if network is not None:
            if architecture is not None:
                raise typer.BadParameter("pass --network or --architecture, not both")
            architecture = _name_architecture(network)
            if num_classes is None:
                raise typer.BadParameter(f"{OPTION} also needs --num-classes N")
        self._weights, self._key, self._network = weights, key, network
        self._is_onnx = network is None and weights is not None and _is_onnx(weights)
        self._complete_spec = partial(classifier_spec, context, mean=mean, std=std, arguments=arguments)
        self._num_classes = num_classes
        if self._is_onnx and architecture in (None, ONNX):
            self._spec = None  # its number of classes is in the file
        else:
            self._spec = self._complete_spec(architecture, num_classes)

    @property
    def name(self) -> str:
        """Return the classifier's name in the report: the name of the weights' file, or of the network."""
        return self._weights.stem if self._weights else str(self._network).rpartition(":")[2]

    def read(self) -> "Classifier":
        """Return the classifier. Raises: FaalError; typer.BadParameter where the user's own code fails."""
        from faal_core.classifier import Classifier
        from faal_core.weights import read_classifier

        network = build_network(self._network, self._spec) if self._network and self._spec else None
        if self._weights is not None and self._is_onnx and self._spec is None:
            return self._read_onnx(self._weights)
        if self._weights is not None:
            return read_classifier(self._weights, self._spec, self._key, network=network)
        return Classifier(network, self._spec).eval()  # type: ignore[arg-type]  # both are set where there are no weights

    def _read_onnx(self, weights: Path) -> "Classifier":
        """Return the network in the ONNX file with the normalisation of the options. Raises: as `read`."""
        from faal_core.weights import read_classifier
        from faal_core.weights.onnx_network import describe_onnx

        classifier = read_classifier(weights, key=self._key)
        spec = self._complete_spec(ONNX, self._num_classes or classifier.num_classes)
        return describe_onnx(classifier.backbone, spec, classifier.num_classes)  # type: ignore[arg-type]  # an ONNX network


def _is_onnx(weights: Path) -> bool:
    """Return whether the file is an ONNX network."""
    with weights.open("rb") as file:
        return is_onnx(file.read(3))


def _name_architecture(network: str) -> str:
    """Return the architecture in the report for `nets.py:build` or `nets:build`. Raises: typer.BadParameter."""
    from faal_core.specs.classifier import OWN_CODE

    module, sign, name = network.rpartition(":")
    if not sign or not module or not name:
        raise typer.BadParameter(
            f"{network!r} names no code: write FILE.py:NAME or MODULE:NAME, such as nets.py:build", param_hint=OPTION
        )
    stem = Path(module).stem if module.endswith(".py") else module
    return f"{OWN_CODE}{stem.replace('-', '_')}.{name}"


def build_network(reference: str, spec: "ClassifierDescription") -> "nn.Module":
    """Return the network that the user's own code builds. The code runs with the user's rights.

    Args:
        reference: `FILE.py:NAME` or `MODULE:NAME`. NAME is a class or function that returns a `torch.nn.Module`, or is a module.
        spec: its arguments are passed by name, and `num_classes` where NAME takes it.
    Raises: typer.BadParameter where there is no such code, or it fails.
    """
    from torch import nn

    from faal_core.networks.python_file import import_file

    place, _, name = reference.rpartition(":")
    try:
        builder: Any = import_file(Path(place)) if place.endswith(".py") else _import_module(place)
        for part in name.split("."):
            builder = getattr(builder, part)
        network = builder if isinstance(builder, nn.Module) else builder(**_choose_arguments(builder, spec))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code can raise anything, and even exit
        raise typer.BadParameter(
            f"{reference} failed with {type(error).__name__}: {str(error)[:500]}", param_hint=OPTION
        ) from error
    if not isinstance(network, nn.Module):
        raise typer.BadParameter(
            f"{reference} returned a {type(network).__name__}, not a torch.nn.Module", param_hint=OPTION
        )
    return network


def _import_module(name: str) -> ModuleType:
    """Import the module, also from the current folder. Raises: whatever the module raises."""
    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _choose_arguments(builder: Callable[..., object], spec: "ClassifierDescription") -> dict[str, Any]:
    """Return the arguments of the builder: those of the spec, and the number of classes where it takes that."""
    takes_classes = "num_classes" in inspect.signature(builder).parameters
    return {**({"num_classes": spec.num_classes} if takes_classes else {}), **spec.arguments}
