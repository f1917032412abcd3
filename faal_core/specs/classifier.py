"""Define the spec of a classifier."""

import math
import re
from typing import Self

from pydantic import Field, ValidationInfo, field_validator

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.specs.class_names import MAX_NAME_LENGTH, is_name
from faal_core.specs.spec import MAX_CLASSES, Spec

MAX_CHANNELS = 4  # red, green, blue and a fourth
OWN_CODE = "python:"
"""Begins the architecture of a network that only code of its owner builds; a dotted name follows, such as `nets.build`."""
_DOTTED_NAME = re.compile(r"[\w<>]+(\.[\w<>]+)*")


class ClassifierDescription(Spec):
    """Describes a classifier, whether or not the catalog of this installation has its architecture."""

    architecture: str = Field(
        max_length=200,
        examples=["preact_resnet18"],
        description="Name of an architecture in the catalog. In reports also `python:` and the dotted name of the class or "
        "function that built a network outside the catalog; the service cannot build such a network.",
    )
    num_classes: int = Field(ge=2, le=MAX_CLASSES, examples=[10])
    mean: tuple[float, ...] = Field(
        (0.0,),
        min_length=1,
        max_length=MAX_CHANNELS,
        description="Value subtracted from pixels in [0, 1], per channel. The number of values is the number of the "
        "network's channels; a single value applies to all channels that the weights have.",
    )
    std: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=MAX_CHANNELS,
        validate_default=True,
        description="Positive divisor of the pixels after mean is subtracted, per channel; as many values as mean has.",
    )
    arguments: dict[str, int] = Field(
        default_factory=dict, description="Arguments of the architecture; the catalog lists their names and bounds."
    )
    class_names: tuple[str, ...] | None = Field(None, description="Name of each class, in label order.")

    @field_validator("std")
    @classmethod
    def _check_std(cls, std: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if any(not math.isfinite(one) or one <= 0 for one in std):
            raise ValueError("every std must be positive and finite")
        if "mean" in info.data and len(std) != len(info.data["mean"]):
            raise ValueError(f"mean has {len(info.data['mean'])} channels and std has {len(std)}")
        return std

    @field_validator("class_names")
    @classmethod
    def _check_class_names(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if names is not None and len(names) != info.data.get("num_classes", len(names)):
            raise ValueError(f"{len(names)} class names for {info.data['num_classes']} classes")
        invalid = next((name for name in names or () if not is_name(name)), None)
        if invalid is not None:
            raise ValueError(
                f"the class name {invalid[:MAX_NAME_LENGTH]!r} is invalid: a name has 1 to {MAX_NAME_LENGTH} characters and no "
                "control characters"
            )
        if names is not None and len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return names

    @property
    def needs_own_code(self) -> bool:
        """Return whether only code of the network's owner builds it: the catalog has no such architecture."""
        return self.architecture.startswith(OWN_CODE)

    @property
    def channels(self) -> int:
        """Return the number of input channels."""
        return len(self.mean)

    def for_channels(self, channels: int) -> Self:
        """Return the spec with its single mean and std repeated for each channel; unchanged where it has several."""
        if self.channels > 1:
            return self
        return self.model_copy(update={"mean": self.mean * channels, "std": self.std * channels})


class ClassifierSpec(ClassifierDescription):
    """Describes what must be known besides the weights to rebuild a classifier in this installation."""

    @field_validator("architecture")
    @classmethod
    def _check_architecture(cls, architecture: str) -> str:
        if architecture.startswith(OWN_CODE):
            if not _DOTTED_NAME.fullmatch(architecture.removeprefix(OWN_CODE)):
                raise ValueError(f"after {OWN_CODE} comes a dotted name such as nets.build, not {architecture!r}")
            return architecture
        try:
            catalog.architecture(architecture)
        except UnknownName as error:
            raise ValueError(error.message) from None
        return architecture

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, arguments: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        if info.data.get("architecture", OWN_CODE).startswith(OWN_CODE):
            return arguments
        entry = catalog.architecture(info.data["architecture"])
        for name, value in arguments.items():
            if name not in entry.arguments:
                allowed = f"it takes {', '.join(entry.arguments)}" if entry.arguments else "it takes none"
                raise ValueError(f"{entry.name} takes no argument {name[:100]!r}; {allowed}")
            bounds = entry.arguments[name]
            if not bounds.low <= value <= bounds.high:
                raise ValueError(f"{name} of {entry.name} must be between {bounds.low} and {bounds.high}, not {value}")
        return arguments
