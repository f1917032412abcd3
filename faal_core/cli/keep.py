"""faal keep: write another candidate of a finished fine-tuning than the one it kept."""

from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli import input_options
from faal_core.cli.classifier_input import build_network
from faal_core.cli.finetune import TRAINED
from faal_core.cli.specs import refuse


def keep(
    results: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="The folder that `faal finetune` wrote with --out.")
    ],
    candidate: Annotated[
        int, typer.Argument(min=0, help="The candidate's number in the report's table; 0 is the original.")
    ],
    weights: input_options.Weights,
    weights_key: input_options.WeightsKey = None,
    network: input_options.Network = None,
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The file to write.")] = Path(
        "candidate.safetensors"
    ),
) -> None:
    """Write the weights of any candidate in a fine-tuning's report; --weights names the file that was fine-tuned."""
    from pydantic import ValidationError

    from faal_core.results.finetune_documents import FinetuneReport
    from faal_core.results.reading import read_report
    from faal_core.training.candidates import candidate_classifier
    from faal_core.weights import read_classifier, write_classifier

    for file in ("report.json", TRAINED):
        if not (results / file).is_file():
            raise typer.BadParameter(
                f"{results} has no {file}; name the folder that `faal finetune` wrote with --out", param_hint="RESULTS"
            )
    try:
        report = read_report((results / "report.json").read_bytes())
    except ValidationError as error:
        raise refuse(error) from None
    if not isinstance(report, FinetuneReport):
        raise typer.BadParameter("report.json is the report of an audit, not of a fine-tuning", param_hint="RESULTS")
    given = report.before.classifier.spec
    modules = [build_network(network, given) if network else None for _ in range(2)]
    trained = read_classifier(results / TRAINED, network=modules[0])
    original = read_classifier(weights, trained.spec, weights_key, network=modules[1])
    write_classifier(output, candidate_classifier(original, trained, report, candidate))
    typer.echo(f"Written to {output}")
