"""What must be known of a classifier."""

import math
from typing import Self

from pydantic import Field, model_validator

from faal_core import catalog
from faal_core.errors import UnknownName
from faal_core.specs.spec import MAX_CLASSES, Spec

MAX_CHANNELS = 4


class ClassifierSpec(Spec):
    """What must be known beside the weights to rebuild a classifier."""

    architecture: str = Field(max_length=100, examples=["preact_resnet18"], description="a name from the catalog")
    num_classes: int = Field(ge=2, le=MAX_CLASSES, examples=[10])
    mean: tuple[float, ...] = Field(
        (0.0,),
        min_length=1,
        max_length=MAX_CHANNELS,
        description="subtracted from pixels in [0, 1], per channel: the number of values sets the network's channels; a "
        "single value serves as many channels as the weights take",
    )
    std: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=MAX_CHANNELS,
        description="what pixels are divided by after that, per channel, positive; as many values as mean has",
    )
    arguments: dict[str, int] = Field(default_factory=dict, description="the architecture's own; bounds in the catalog")
    class_names: tuple[str, ...] | None = Field(None, description="one per class, in label order")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std has {len(self.std)}")
        if any(not math.isfinite(s) or s <= 0 for s in self.std):
            raise ValueError("every std is positive")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.num_classes} classes")
        if self.class_names is not None and len(set(self.class_names)) < len(self.class_names):
            raise ValueError("two classes have the same name")
        return self

    @model_validator(mode="after")
    def _offered(self) -> Self:
        try:
            entry = catalog.architecture(self.architecture)
        except UnknownName as error:
            raise ValueError(error.message) from None
        for name, value in self.arguments.items():
            if name not in entry.arguments:
                raise ValueError(f"{self.architecture} takes no argument {name!r}; it takes {sorted(entry.arguments)}")
            bounds = entry.arguments[name]
            if not bounds.low <= value <= bounds.high:
                raise ValueError(
                    f"{name} of {self.architecture} lies between {bounds.low} and {bounds.high}, not {value}"
                )
        return self

    @property
    def channels(self) -> int:
        """Input channels: one mean per channel."""
        return len(self.mean)

    def for_channels(self, channels: int) -> Self:
        """Return the spec with its one mean and std given to so many channels; itself where it has several."""
        if self.channels > 1:
            return self
        return self.model_copy(update={"mean": self.mean * channels, "std": self.std * channels})
