"""faal audit: per-class accuracy of a classifier, as a report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from faal_core.cli import input_options, options
from faal_core.cli.classifier_input import ClassifierOptions
from faal_core.cli.image_options import image_loader, name_classes
from faal_core.cli.options import torch_device
from faal_core.cli.results import output_folder, require_worst_class, write_report
from faal_core.cli.specs import attacks as attack_specs
from faal_core.cli.specs import build_spec


def audit(
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
    part: input_options.ImagePart = "test",
    class_order: input_options.ClassOrder = None,
    resize: input_options.Resize = None,
    crop: input_options.Crop = None,
    class_groups: input_options.ClassGroups = None,
    cache: input_options.Cache = None,
    epsilon: options.Epsilon = None,
    norm: options.Norm = None,
    attacks: options.Attacks = None,
    transfer_from: input_options.TransferFrom = None,
    images: options.Images = None,
    min_worst: options.DecideWorst = None,
    settings: options.AuditSettings = None,
    spec: options.SpecFile = None,
    out: options.Out,
    minutes: options.Minutes = None,
    ledger: options.Ledger = None,
    save_outcomes: options.SaveOutcomes = None,
    save_adversarial: options.SaveAdversarial = None,
    device: options.Device = "auto",
    processes: options.Processes = None,
    require_worst: options.RequireWorst = None,
    as_json: options.AsJson = False,
) -> None:
    """Audit a classifier class by class on the test part of a data set, and write report.json and report.html."""
    from faal_core.specs import AuditSpec

    option_values = {"threat": {"norm": norm, "epsilon": epsilon}, "attacks": attack_specs(attacks), "images": images}
    if min_worst is not None:
        option_values["sequential"] = {"min_worst": min_worst}
    checked_spec = build_spec(context, AuditSpec, spec, option_values, settings)
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
        ledger=ledger,
    )
    context.with_resource(output_folder(out))

    from faal_core.auditing.processes import Executors
    from faal_core.auditing.reliability import digest_training_images
    from faal_core.auditing.run import run_audit
    from faal_core.auditing.sources import add_transfer_attacks, read_source
    from faal_core.reports.progress_bar import ProgressBar

    classifier = source.read()
    name_classes(context, classifier, class_names)
    sources = [read_source(file, classifier) for file in transfer_from or ()]
    checked_spec = add_transfer_attacks(checked_spec, classifier, sources)
    data = load(part)
    with _resume_hint(ledger), ProgressBar(minutes) as progress:
        audited = run_audit(
            classifier,
            data,
            checked_spec,
            name=name or source.name,
            device=torch_device(device),
            ledger=ledger,
            progress=progress,
            trained_on=digest_training_images(dataset, part, root=data_root),
            keep_adversarial=save_adversarial or False,
            executors=Executors(processes),
            sources=sources,
        )
    write_report(audited.report, out, audited.outcomes, as_json=as_json)
    if save_outcomes:
        audited.save_outcomes(save_outcomes)
    require_worst_class(audited.report, require_worst)


@contextmanager
def _resume_hint(ledger: Path | None) -> Iterator[None]:
    """Print how to resume from the ledger, if there is one, on Ctrl-C. Raises: the same KeyboardInterrupt again."""
    try:
        yield
    except KeyboardInterrupt:
        if ledger:
            typer.echo(
                f"Stopped. {ledger} keeps the results so far. Run the same command again to resume, or add --minutes 0 to "
                "report them.",
                err=True,
            )
        raise
