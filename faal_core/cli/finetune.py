"""faal finetune: a fairer classifier, and the report that compares it with the given one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faal_core.cli import options
from faal_core.cli.image_options import image_loader, name_classes
from faal_core.cli.options import torch_device
from faal_core.cli.results import output_folder, require_worst_class, set_status, write_report
from faal_core.cli.specs import attacks as attack_specs
from faal_core.cli.specs import build_spec, classifier_spec, numbers

TRAINED = "trained.safetensors"

if TYPE_CHECKING:
    import torch

    from faal_core.classifier import Classifier
    from faal_core.datasets import LabelledImages
    from faal_core.results.finetune_documents import FinetuneReport
    from faal_core.specs import FinetuneSpec


def finetune(
    context: typer.Context,
    weights: options.Weights,
    dataset: options.Dataset,
    out: options.Out,
    epsilon: options.Epsilon = None,
    norm: options.Norm = None,
    method: options.Method = None,
    loss: options.Loss = None,
    dro_radius: options.DroRadius = None,
    preset: options.Preset = None,
    max_robust_drop: options.MaxRobustDrop = None,
    max_clean_drop: options.MaxCleanDrop = None,
    max_class_drop: options.MaxClassDrop = None,
    augment: options.Augment = None,
    learning_rates: options.LearningRates = None,
    steps: options.Steps = None,
    batch_size: options.TrainingBatch = None,
    attacks: options.Attacks = None,
    images: options.Images = None,
    confidence: options.Confidence = None,
    seed: options.Seed = None,
    weights_key: options.WeightsKey = None,
    architecture: options.Architecture = None,
    num_classes: options.NumClasses = None,
    mean: options.Mean = None,
    std: options.Std = None,
    arguments: options.Argument = None,
    name: options.Name = None,
    class_names: options.ClassNames = None,
    class_order: options.ClassOrder = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    part: options.TestPart = "test",
    data_root: options.DataRoot = options.DATA_ROOT,
    download: options.Download = False,
    spec: options.SpecFile = None,
    device: options.Device = "auto",
    minutes: options.Minutes = None,
    require_worst: options.RequireWorst = None,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune an adversarially trained classifier so that its weakest classes become more robust.

    Writes weights.safetensors, report.json, report.html, and trained.safetensors, from which `faal keep` makes the report's other
    candidates. Exits with 4, without weights.safetensors, where it keeps the original weights; with 5 where the test images
    show that some accuracy fell significantly and the worst class is not better.

    The same command resumes a run that was stopped. With several GPUs: torchrun --nproc-per-node 4 -m faal_core.cli finetune …
    """
    from faal_core.specs import FinetuneSpec

    rates = numbers(learning_rates)
    bounds = {"max_robust_drop": max_robust_drop, "max_clean_drop": max_clean_drop, "max_class_drop": max_class_drop}
    trained = {"learning_rates": rates, "batch_size": batch_size, "augment": augment, "seed": seed, **bounds}
    given = {
        "preset": preset,
        "threat": {"norm": norm, "epsilon": epsilon},
        "method": {"type": method, "loss": loss, "dro_radius": dro_radius},
        "training": {**trained, "attack": {"steps": steps}},
        "audit": {"attacks": attack_specs(attacks), "images": images, "confidence": confidence, "seed": seed},
    }
    asked = build_spec(context, FinetuneSpec, spec, given)
    network = classifier_spec(context, architecture, num_classes, mean, std, arguments)
    load = image_loader(dataset, data_root, download=download, class_order=class_order, resize=resize, crop=crop)
    context.with_resource(output_folder(out, out / "checkpoint"))

    from faal_core.weights import read_classifier

    classifier = read_classifier(weights, network, weights_key)
    name_classes(context, classifier, class_names)
    report = _finetune(
        classifier, load("train"), load(part), asked, name or weights.stem, torch_device(device), minutes, out
    )
    if report is None:
        return
    write_report(report, out, as_json=as_json)
    _remove(out / "checkpoint")
    require_worst_class(report.after, require_worst)
    set_status(context, report)


def _finetune(
    classifier: "Classifier",
    train: "LabelledImages",
    test: "LabelledImages",
    spec: "FinetuneSpec",
    name: str,
    device: "torch.device",
    minutes: float | None,
    out: Path,
) -> "FinetuneReport | None":
    """Fine-tune, write the weights into `out`, and return the report; None in a process that took part in another's training.

    What a run needs to resume is in the folder `checkpoint` of `out`.
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
    weights = out / "weights.safetensors"
    if done.report.outcome == "kept-original":
        weights.unlink(missing_ok=True)  # those of an earlier run with another spec
    else:
        write_classifier(weights, done.classifier)
    write_classifier(out / TRAINED, done.trained)
    return done.report


def _remove(checkpoint: Path) -> None:
    """Remove what a fine-tuning left in the folder, and the folder itself if nothing else is in it."""
    for pattern in ("training.*", "*.ledger"):
        for file in checkpoint.glob(pattern):
            file.unlink()
    if not any(checkpoint.iterdir()):
        checkpoint.rmdir()
