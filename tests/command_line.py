"""Run the command `faal` in a folder with a tiny network and data set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from faal_core import networks, weights
from faal_core.cli import main
from faal_core.specs import ClassifierSpec

SPEC = ClassifierSpec(architecture="small_resnet", num_classes=3, arguments={"width": 8})


def fill(folder: Path) -> None:
    """Write a network's weights into the folder, and a data set of three classes, each with a different bright third."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in {"train": 60, "test": 30}.items():
        labels = np.arange(count) % 3
        images = generator.integers(0, 90, (count, 12, 12), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 * label : 4 * label + 4] += 150
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    np.savez(folder / "rows.npz", **arrays, class_names=np.array(["top", "middle", "<b>foot</b>"]))
    torch.manual_seed(0)
    weights.write_classifier(folder / "net.safetensors", networks.build(SPEC))
    without_bounds = {"training": {"max_robust_drop": None, "max_clean_drop": None}}
    (folder / "unbounded.json").write_text(json.dumps(without_bounds))


def run_faal(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Run `faal` in the folder and return its exit code."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["faal", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


AUDIT = ("audit", "--weights", "net.safetensors", "--dataset", "rows.npz", "--attacks", "quick", "--out", "out")
FAST_TRAINING = ("--set", "training.attack.steps=2", "--set", "training.batch_size=20")
FINETUNE = ("finetune", *AUDIT[1:], "--epsilon", "8/255", *FAST_TRAINING)
UNBOUNDED = ("--spec", "unbounded.json")  # keeps the trained weights, however little they are worth
