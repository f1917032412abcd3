"""The functions that run in confinement and read an upload's bytes. The upload's own name is unknown here."""

from pathlib import Path
from typing import Any

from faal_core import catalog, datasets, weights
from faal_core.datasets.labelled_images import LabelledImages
from worker.model_specs import read_spec

CONVERTED = "converted"


def convert_model(
    folder: Path, source: Path, spec: dict[str, Any], key: str | None = None, networks: str | None = None
) -> dict[str, Any]:
    """Write the safetensors or ONNX file into the folder, named `CONVERTED`; return its spec and its weights' digest.

    Args:
        networks: path of the site's own networks.

    Raises: WeightsUnreadable, WeightsAmbiguous, WeightsMismatch; InvalidSpec where the site's own network cannot be built.
    """
    catalog.offer_networks(None if networks is None else Path(networks))
    classifier = weights.convert_checkpoint(source, folder / CONVERTED, read_spec(spec), key)
    return {"spec": classifier.spec.model_dump(mode="json"), "sha256": weights.digest(classifier)}


def summarise_dataset(folder: Path, source: Path) -> dict[str, Any]:
    """Return shape, class names, images of each part, and the columns of groups of the test and of the training part.

    The upload must be an .npz or .zip archive. There must be a test part, and every part must be sound. Raises: DatasetInvalid.
    """
    upload = folder / "upload"  # messages name the file, and a digest says nothing to its owner
    upload.symlink_to(source)
    datasets.is_archive_of_arrays(upload)  # refuses the kinds of files that only the command line reads
    parts: dict[str, LabelledImages] = {"test": datasets.load(str(upload), "test")}
    for part in datasets.list_parts(str(upload)):
        if part not in parts:
            parts[part] = datasets.load(str(upload), part)
    test = parts["test"]
    return {
        "shape": test.summarise().shape,
        "class_names": test.class_names,
        "images": {name: len(part) for name, part in parts.items()},
        "groups": {grouping.column: grouping.names for grouping in test.groups},
        "training_groups": [grouping.column for grouping in (parts["train"].groups if "train" in parts else ())],
    }
