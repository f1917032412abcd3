"""faal audit | finetune | render | catalog."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faal_core.cli import options
from faal_core.cli.options import build_spec, classifier_spec, torch_device

if TYPE_CHECKING:
    import torch

    from faal_core.catalog import ArchitectureEntry
    from faal_core.classifier import Classifier
    from faal_core.datasets import LabelledImages
    from faal_core.reports.documents import AuditReport, FinetuneReport
    from faal_core.specs import FinetuneSpec

app = typer.Typer(
    help="Audit classifiers for adversarial robustness class by class, and repair their weakest classes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

GATE_CLOSED = 3


@app.command()
def audit(
    weights: options.Weights,
    dataset: options.Dataset,
    out: options.Out,
    epsilon: options.Epsilon = None,
    norm: options.Norm = None,
    attacks: options.Attacks = None,
    images: options.Images = None,
    confidence: options.Confidence = None,
    batch_size: options.AuditBatch = None,
    seed: options.Seed = None,
    weights_key: options.WeightsKey = None,
    architecture: options.Architecture = None,
    num_classes: options.NumClasses = None,
    mean: options.Mean = None,
    std: options.Std = None,
    argument: options.Argument = None,
    name: options.Name = None,
    data_root: options.DataRoot = None,
    download: options.Download = False,
    spec: options.SpecFile = None,
    device: options.Device = "auto",
    minutes: options.Minutes = None,
    ledger: options.Ledger = None,
    partial: options.Partial = False,
    require_worst: options.RequireWorst = None,
    as_json: options.AsJson = False,
) -> None:
    """Judge a classifier on the test part of a data set: writes report.json and report.html."""
    from faal_core.specs import AuditSpec

    if partial and not (ledger and ledger.exists()):
        raise typer.BadParameter("goes with the --ledger of an audit that was begun", param_hint="--partial")
    judged = {"images": images, "confidence": confidence, "batch_size": batch_size, "seed": seed}
    given = {"threat": {"norm": norm, "epsilon": epsilon}, "attacks": options.attacks(attacks), **judged}
    asked = build_spec(AuditSpec, spec, given)
    network = classifier_spec(architecture, num_classes, mean, std, argument)
    out.mkdir(parents=True, exist_ok=True)

    from faal_core import datasets
    from faal_core.audit import audit as run
    from faal_core.cli.progress_bar import ProgressBar
    from faal_core.weights import read_classifier

    classifier = read_classifier(weights, network, weights_key)
    data = datasets.load(dataset, "test", root=data_root, download=download)
    with _how_to_go_on(ledger), ProgressBar(minutes) as progress:
        audited = run(
            classifier,
            data,
            asked,
            name=name or weights.stem,
            device=torch_device(device),
            ledger=ledger,
            compute=not partial,
            progress=progress,
        )
    _deliver(audited.report, out, as_json=as_json)
    _gate(audited.report, require_worst)


@contextmanager
def _how_to_go_on(ledger: Path | None) -> Iterator[None]:
    """Within, Ctrl-C tells what can be done with the ledger, if there is one. Raises: KeyboardInterrupt, as it came."""
    try:
        yield
    except KeyboardInterrupt:
        if ledger:
            typer.echo(
                f"Stopped; {ledger} keeps what was found. The same command goes on from there, "
                "and with --partial it reports as far as that goes.",
                err=True,
            )
        raise


@app.command()
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
    weights_key: options.WeightsKey = None,
    architecture: options.Architecture = None,
    num_classes: options.NumClasses = None,
    mean: options.Mean = None,
    std: options.Std = None,
    argument: options.Argument = None,
    name: options.Name = None,
    data_root: options.DataRoot = None,
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
    out.mkdir(parents=True, exist_ok=True)

    from faal_core import datasets
    from faal_core.weights import read_classifier

    classifier = read_classifier(weights, network, weights_key)
    train, test = (datasets.load(dataset, part, root=data_root, download=download) for part in ("train", "test"))
    report = _repair(classifier, train, test, asked, name or weights.stem, torch_device(device), minutes, out)
    if report is None:
        return
    _deliver(report, out, as_json=as_json)
    _remove(out / "checkpoint")
    _gate(report.after, require_worst)


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


@app.command()
def render(
    report: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A report.json.")],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The page to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Turn a report's JSON into its page."""
    from pydantic import ValidationError

    from faal_core.reports import html
    from faal_core.reports.documents import read_report

    try:
        document = read_report(report.read_bytes())
    except ValidationError as error:
        raise options.rejected(error) from None
    output.write_text(html.render(document), "utf-8")


@app.command()
def catalog(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """List the architectures, data sets and attack presets."""
    from faal_core import catalog as offered

    titles = {
        "architectures": {entry.name: _network(entry) for entry in offered.architectures().values()},
        "datasets": {entry.name: entry.title for entry in offered.datasets().values()},
        "presets": {entry.name: entry.title for entry in offered.PRESETS.values()},
    }
    if as_json:
        typer.echo(json.dumps(titles, indent=2, ensure_ascii=False))
        return
    width = max(len(name) for section in titles.values() for name in section)
    for what, section in titles.items():
        typer.echo("\n".join([f"{what}:", *(f"  {name:{width}}  {title}" for name, title in section.items())]))


def _network(entry: "ArchitectureEntry") -> str:
    """The network's title with the arguments it takes."""
    bounds = [f"{name} {bound.low}–{bound.high}" for name, bound in entry.arguments.items()]
    return f"{entry.title} ({', '.join(bounds)})" if bounds else entry.title


def _deliver(report: "AuditReport | FinetuneReport", out: Path, *, as_json: bool) -> None:
    """Writes the report's two files; prints it as JSON, or its warnings, verdict and classes."""
    from faal_core.reports import html, text

    document = report.model_dump_json(indent=2)
    (out / "report.json").write_text(document, "utf-8")
    (out / "report.html").write_text(html.render(report), "utf-8")
    typer.echo(document if as_json else f"{text.summary(report)}\n\nWritten to {out}")


def _gate(report: "AuditReport", required: float | None) -> None:
    """Raises: typer.Exit(3) when the worst class may lie below the required rate, as after an incomplete audit it may."""
    from faal_core.reports.text import percent

    if required is None:
        return
    if not report.complete:
        typer.echo(f"The audit is incomplete; {percent(required)} are required of a complete one.", err=True)
        raise typer.Exit(GATE_CLOSED)
    if (worst := report.robust.worst.low) < required:
        typer.echo(f"The worst class may be as low as {percent(worst)}; {percent(required)} are required.", err=True)
        raise typer.Exit(GATE_CLOSED)
