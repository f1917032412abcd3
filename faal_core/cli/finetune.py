"""faal finetune: train a fairer classifier, and write the report that compares it with the given one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faal_core.cli import input_options, options
from faal_core.cli.classifier_input import ClassifierOptions
from faal_core.cli.image_options import image_loader, name_classes
from faal_core.cli.options import torch_device
from faal_core.cli.results import exit_status, output_folder, require_worst_class, write_report
from faal_core.cli.specs import attacks as attack_specs
from faal_core.cli.specs import build_spec, numbers

TRAINED = "trained.safetensors"

if TYPE_CHECKING:
    import torch

    from faal_core.classifier import Classifier
    from faal_core.datasets import LabelledImages
    from faal_core.finetuning import FinetuneResult
    from faal_core.specs import FinetuneSpec


def finetune(
    context: typer.Context,
    *,
    weights: input_options.OptionalWeights = None,
    weights_key: input_options.WeightsKey = None,
    network: input_options.Network = None,
    architecture: input_options.Architecture = None,
    num_classes: input_options.NumClasses = None,
    mean: input_options.Mean = None,
    std: input_options.Std = None,
    arguments: input_options.Argument = None,
    name: input_options.Name = None,
    class_names: input_options.ClassNames = None,
    dataset: input_options.Dataset,
    data_root: input_options.DataRoot = input_options.DATA_ROOT,
    download: input_options.Download = False,
    part: input_options.TestPart = "test",
    class_order: input_options.ClassOrder = None,
    resize: input_options.Resize = None,
    crop: input_options.Crop = None,
    class_groups: input_options.ClassGroups = None,
    cache: input_options.Cache = None,
    epsilon: options.Epsilon = None,
    norm: options.Norm = None,
    attacks: options.Attacks = None,
    images: options.Images = None,
    method: options.Method = None,
    learning_rates: options.LearningRates = None,
    settings: options.FinetuneSettings = None,
    spec: options.SpecFile = None,
    out: options.Out,
    minutes: options.Minutes = None,
    device: options.Device = "auto",
    processes: options.Processes = None,
    require_worst: options.RequireWorst = None,
    as_json: options.AsJson = False,
) -> int:
    """Fine-tune an adversarially trained classifier so that its weakest classes become more robust.

    Writes weights.safetensors, report.json, report.html and
    trained.safetensors, from which `faal keep` makes the report's other
    candidates. The exit status is 4, without weights.safetensors, if the
    original weights are kept. It is 5 if the test images show that some
    accuracy fell significantly and the worst class is not better.

    The same command resumes a run that was stopped. To use several GPUs:
    torchrun --nproc-per-node 4 -m faal_core.cli finetune …
    """
    from faal_core.specs import FinetuneSpec

    option_values = {
        "threat": {"norm": norm, "epsilon": epsilon},
        "method": {"type": method},
        "training": {"learning_rates": numbers(learning_rates)},
        "audit": {"attacks": attack_specs(attacks), "images": images},
    }
    checked_spec = build_spec(context, FinetuneSpec, spec, option_values, settings)
    source = ClassifierOptions(
        context,
        weights=weights,
        key=weights_key,
        network=network,
        architecture=architecture,
        num_classes=num_classes,
        mean=mean,
        std=std,
        arguments=arguments,
    )
    load = image_loader(
        dataset,
        data_root,
        download=download,
        class_order=class_order,
        resize=resize,
        crop=crop,
        class_groups=class_groups,
        cache=cache,
    )
    context.with_resource(output_folder(out, out / "checkpoint"))

    from faal_core.auditing.suitability import check_trainable

    classifier = source.read()
    check_trainable(classifier, checked_spec)
    name_classes(context, classifier, class_names)
    done = _finetune(
        classifier,
        load("train"),
        load(part),
        checked_spec,
        name or source.name,
        torch_device(device),
        minutes,
        processes,
        out,
    )
    if done is None:
        return 0
    write_report(done.report, out, *done.outcomes, as_json=as_json)
    _remove(out / "checkpoint")
    require_worst_class(done.report.after, require_worst)
    return exit_status(done.report)


def _finetune(
    classifier: "Classifier",
    train: "LabelledImages",
    test: "LabelledImages",
    spec: "FinetuneSpec",
    name: str,
    device: "torch.device",
    minutes: float | None,
    processes: int | None,
    out: Path,
) -> "FinetuneResult | None":
    """Fine-tune, write the weights into `out`, and return the result; None in the processes of other ranks.

    The folder `checkpoint` of `out` holds what a run needs to resume.
    """
    from faal_core.auditing.processes import Executors
    from faal_core.finetuning.run import run_finetuning, training_checkpoint
    from faal_core.reports.progress_bar import ProgressBar
    from faal_core.training.ranks import join_ranks
    from faal_core.training.recipe import train as take_part
    from faal_core.weights import write_classifier

    checkpoint = out / "checkpoint"
    with join_ranks(os.environ, device) as ranks:
        if not ranks.is_leader:
            saved = training_checkpoint(checkpoint)
            take_part(classifier, train, spec, device=ranks.device, checkpoint=saved, ranks=ranks)
            return None
        with ProgressBar(minutes) as progress:
            done = run_finetuning(
                classifier,
                train,
                test,
                spec,
                name=name,
                device=ranks.device,
                checkpoint=checkpoint,
                progress=progress,
                ranks=ranks,
                executors=Executors(processes),
            )
    weights = out / "weights.safetensors"
    if done.report.outcome == "kept-original":
        weights.unlink(missing_ok=True)  # those of an earlier run with another spec
    else:
        write_classifier(weights, done.classifier)
    write_classifier(out / TRAINED, done.trained_classifier)
    return done


def _remove(checkpoint: Path) -> None:
    """Remove the checkpoint of a finished fine-tuning, and its folder if it is empty then."""
    for pattern in ("training.*", "*.ledger"):
        for file in checkpoint.glob(pattern):
            file.unlink()
    if not any(checkpoint.iterdir()):
        checkpoint.rmdir()
