"""Write the names of torchvision's and timm's classifiers into `faal_core/catalog/library_names.json`.

The web service lists them without torch. A model of timm counts as a classifier if a network with seven classes and one channel
returns seven logits. This is measured on the meta device, which needs no memory and takes some minutes for all models.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from faal_core.torchvision_import import torchvision

import timm  # isort: skip - imports torchvision

NAMES = Path(__file__).resolve().parents[1] / "faal_core/catalog/library_names.json"
CLASSES = 7


def main() -> None:
    """Write the file, and print each model that is left out with the reason."""
    names = torchvision.models.list_models(module=torchvision.models)
    left_out = {name: reason for name in timm.list_models() if (reason := explain_unsuitability(name))}
    for name, reason in left_out.items():
        print(f"timm/{name}: {reason}", file=sys.stderr)
    NAMES.write_text(format_names(names, [*left_out]))


def format_names(torchvision_names: list[str], left_out: list[str]) -> str:
    """Return the file's text: per library its version and names, and the models of timm that are no classifiers."""
    timm_names = [name for name in timm.list_models() if name not in left_out]
    content: dict[str, dict[str, Any]] = {
        "torchvision": {"version": torchvision.__version__.partition("+")[0], "names": torchvision_names},
        "timm": {"version": timm.__version__, "names": timm_names, "left_out": left_out},
    }
    return json.dumps(content, indent=0) + "\n"


def explain_unsuitability(name: str) -> str | None:
    """Return why timm's model is no classifier of images of one channel; None where it is one."""
    try:
        with torch.device("meta"), torch.no_grad():
            network: Any = timm.create_model(name, pretrained=False, num_classes=CLASSES, in_chans=1)
            _, height, width = network.pretrained_cfg["input_size"]
            logits = network.eval()(torch.empty(2, 1, height, width))
    except Exception as error:  # noqa: BLE001 - any failure of a third party's model leaves it out
        return f"{type(error).__name__}: {error}"
    return None if logits.shape == (2, CLASSES) else f"it returns the shape {tuple(logits.shape)}"


if __name__ == "__main__":
    main()
