"""faal finetune: a fairer classifier, and the report that compares it with the given one."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faal_core.cli import options
from faal_core.cli.image_options import DATA_ROOT, image_reading, name_classes
from faal_core.cli.options import build_spec, classifier_spec, torch_device
from faal_core.cli.results import require_worst_class, write_report

if TYPE_CHECKING:
    import torch

    from faal_core.classifier import Classifier
    from faal_core.datasets import LabelledImages
    from faal_core.reports.documents import FinetuneReport
    from faal_core.specs import FinetuneSpec


def finetune(
    weights: options.Weights,
    dataset: options.Dataset,
    out: options.Out,
    epsilon: options.Epsilon = None,
    norm: options.Norm = None,
    method: options.Method = None,
    loss: options.Loss = None,
    dro_radius: options.DroRadius = None,
    preset: options.Preset = None,
    mean_may_fall: options.MeanMayFall = None,
    learning_rates: options.LearningRates = None,
    steps: options.Steps = None,
    batch_size: options.TrainingBatch = None,
    attacks: options.Attacks = None,
    images: options.Images = None,
    confidence: options.Confidence = None,
    seed: options.Seed = None,
    architecture: options.Architecture = None,
    num_classes: options.NumClasses = None,
    mean: options.Mean = None,
    std: options.Std = None,
    argument: options.Argument = None,
    name: options.Name = None,
    class_names: options.ClassNames = None,
    class_order: options.ClassOrder = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    data_root: options.DataRoot = DATA_ROOT,
    download: options.Download = False,
    spec: options.SpecFile = None,
    device: options.Device = "auto",
    minutes: options.Minutes = None,
    require_worst: options.RequireWorst = None,
    as_json: options.AsJson = False,
) -> None:
    """Repair a classifier's weakest classes: writes weights.safetensors, report.json and report.html.

    A run that was stopped goes on from where it was when the same command is given again. With several GPUs:
    torchrun --nproc-per-node 4 -m faal_core.cli finetune … (which ends with 1 where this command ends with 2, 3 or 130).
    """
    from faal_core.specs import FinetuneSpec

    rates = options.numbers(learning_rates)
    trained = {"learning_rates": rates, "batch_size": batch_size, "mean_may_fall": mean_may_fall, "seed": seed}
    given = {
        "preset": preset,
        "threat": {"norm": norm, "epsilon": epsilon},
        "method": {"type": method, "loss": loss, "dro_radius": dro_radius},
        "training": {**trained, "attack": {"steps": steps}},
        "audit": {"attacks": options.attacks(attacks), "images": images, "confidence": confidence, "seed": seed},
    }
    asked = build_spec(FinetuneSpec, spec, given)
    network = classifier_spec(architecture, num_classes, mean, std, argument)
    if download and "LOCAL_RANK" in os.environ:
        raise typer.BadParameter(
            "several processes would write into one folder: let one download first", param_hint="--download"
        )
    read = image_reading(class_order, resize, crop)
    out.mkdir(parents=True, exist_ok=True)

    from faal_core import datasets
    from faal_core.weights import read_classifier

    classifier = read_classifier(weights, network)
    name_classes(classifier, class_names)
    load = partial(datasets.load, dataset, root=data_root, download=download, reading=read)
    train, test = load("train"), load("test")
    report = _repair(classifier, train, test, asked, name or weights.stem, torch_device(device), minutes, out)
    if report is None:
        return
    write_report(report, out, as_json=as_json)
    _remove(out / "checkpoint")
    require_worst_class(report.after, require_worst)


def _repair(
    classifier: "Classifier",
    train: "LabelledImages",
    test: "LabelledImages",
    spec: "FinetuneSpec",
    name: str,
    device: "torch.device",
    minutes: float | None,
    out: Path,
) -> "FinetuneReport | None":
    """The fine-tuning's report; the weights are in `out` afterwards, and in its folder `checkpoint` what it needs to go on.

    None in a process that took part in the training of another.
    """
    from faal_core.cli.progress_bar import ProgressBar
    from faal_core.finetune import finetune as run
    from faal_core.finetune import training_checkpoint
    from faal_core.training.ranks import joined
    from faal_core.training.recipe import train as take_part
    from faal_core.weights import write_classifier

    checkpoint = out / "checkpoint"
    with joined(os.environ, device) as ranks:
        if not ranks.leads:
            saved = training_checkpoint(checkpoint)
            take_part(classifier, train, spec, device=ranks.device, checkpoint=saved, ranks=ranks)
            return None
        with ProgressBar(minutes) as progress:
            done = run(
                classifier,
                train,
                test,
                spec,
                name=name,
                device=ranks.device,
                checkpoint=checkpoint,
                progress=progress,
                ranks=ranks,
            )
    write_classifier(out / "weights.safetensors", done.classifier)
    return done.report


def _remove(checkpoint: Path) -> None:
    """Nothing. Afterwards the folder is free of what a fine-tuning left there, and gone if nothing else is in it."""
    for pattern in ("training.*", "*.ledger"):
        for file in checkpoint.glob(pattern):
            file.unlink()
    if not any(checkpoint.iterdir()):
        checkpoint.rmdir()
