"""The bundled demo set: a stratified subset of Fashion-MNIST, which needs no download."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from faal_core.datasets.labelled_images import LabelledImages, Part


def load(part: Part, root: Path | None = None, download: bool = False) -> LabelledImages:
    """Return 600 training or 300 test images a class, in the order of the official files.

    `root` and `download` are ignored. scripts/make_bundled_data.py wrote the file.

    Source: Xiao, Rasul and Vollgraf 2017, MIT licence.
    """
    with (
        files("faal_core").joinpath("bundled/fashion_mnist_subset.npz").open("rb") as file,
        np.load(file) as archive,
    ):
        images, labels = archive[f"{part}_images"], archive[f"{part}_labels"]
        class_names = tuple(archive["class_names"].tolist())
    return LabelledImages(
        images=torch.from_numpy(images).unsqueeze(1),
        labels=torch.from_numpy(labels).long(),
        class_names=class_names,
        name="fashion-mnist-subset",
        part=part,
    )
