"""faal audit: per-class accuracy of a classifier, as a report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from faal_core.cli import options
from faal_core.cli.image_options import image_loader, name_classes
from faal_core.cli.options import torch_device
from faal_core.cli.results import output_folder, require_worst_class, write_report
from faal_core.cli.specs import attacks as attack_specs
from faal_core.cli.specs import build_spec, classifier_spec


def audit(
    context: typer.Context,
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
    arguments: options.Argument = None,
    name: options.Name = None,
    class_names: options.ClassNames = None,
    class_order: options.ClassOrder = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    part: options.ImagePart = "test",
    data_root: options.DataRoot = options.DATA_ROOT,
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
    given = {"threat": {"norm": norm, "epsilon": epsilon}, "attacks": attack_specs(attacks), **judged}
    asked = build_spec(context, AuditSpec, spec, given)
    network = classifier_spec(context, architecture, num_classes, mean, std, arguments)
    load = image_loader(dataset, data_root, download=download, class_order=class_order, resize=resize, crop=crop)
    context.with_resource(output_folder(out))

    from faal_core.audit.reliability import training_digests
    from faal_core.audit.run import audit as run
    from faal_core.cli.progress_bar import ProgressBar
    from faal_core.weights import read_classifier

    classifier = read_classifier(weights, network, weights_key)
    name_classes(context, classifier, class_names)
    data = load(part)
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
            trained_on=training_digests(dataset, part, root=data_root),
        )
    write_report(audited.report, out, as_json=as_json)
    require_worst_class(audited.report, require_worst)


@contextmanager
def _how_to_go_on(ledger: Path | None) -> Iterator[None]:
    """Say on Ctrl-C how to resume from the ledger, if there is one. Raises: KeyboardInterrupt, as it came."""
    try:
        yield
    except KeyboardInterrupt:
        if ledger:
            typer.echo(
                f"Stopped. {ledger} keeps the results so far. Run the same command again to resume, or add --partial to report "
                "them.",
                err=True,
            )
        raise
