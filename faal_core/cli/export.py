"""faal export: bring reports into the tools of others."""

import os
from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli.remedies import in_terms_of_options

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

Reports = Annotated[
    list[Path],
    typer.Argument(
        exists=True,
        help="The report.json or the folder that has it; or those of several audits that differ in the radius alone.",
    ),
]
RunName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the run.", show_default="the classifier's name")
]


@app.callback()
def export() -> None:
    """Export a report to MLflow, Weights & Biases, a model card of Hugging Face, or a table."""


def mlflow(
    reports: Reports,
    tracking_uri: Annotated[
        str,
        typer.Option(
            metavar="URI",
            envvar="MLFLOW_TRACKING_URI",
            help="The MLflow server, or a database such as sqlite:///mlflow.db.",
        ),
    ],
    experiment: Annotated[str, typer.Option(metavar="NAME", help="Name of the experiment.")] = "faal",
    run_name: RunName = None,
    model_version: Annotated[
        str | None,
        typer.Option(
            metavar="NAME/VERSION", help="Set the main numbers as tags of this version of a registered model."
        ),
    ] = None,
) -> None:
    """Store a report as a run of MLflow, with its numbers, settings and files."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when the package is imported
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"
    )  # 14 s; by default the wrong address is tried for minutes
    from faal_core.exports.mlflow import log_report

    run = log_report(
        *reports, tracking_uri=tracking_uri, experiment=experiment, run_name=run_name, model_version=model_version
    )
    typer.echo(f"Stored as run {run} of the experiment {experiment}")


def wandb(
    reports: Reports,
    project: Annotated[str, typer.Option(metavar="NAME", envvar="WANDB_PROJECT", help="Name of the project.")],
    entity: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="WANDB_ENTITY", help="User or team that the project belongs to."),
    ] = None,
    run_name: RunName = None,
) -> None:
    """Store a report as a run of Weights & Biases, with its numbers, settings, classes and files."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when the package is imported
    from faal_core.exports.wandb import log_report

    typer.echo(f"Stored as {log_report(*reports, project=project, entity=entity, run_name=run_name)}")


def huggingface(
    reports: Reports,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", dir_okay=False, help="The card to write; in an existing one, FAAL's section is replaced."
        ),
    ] = Path("README.md"),
    dataset_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The data set's id on Hugging Face, such as uoft-cs/cifar10.")
    ] = None,
) -> None:
    """Write a report's results into a model card of Hugging Face; the card is not uploaded."""
    from faal_core.exports.huggingface import write_model_card

    write_model_card(*reports, path=output, dataset_id=dataset_id)
    typer.echo(f"Written to {output}")


def classes(
    reports: Reports,
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, help="The table to write, a .csv or .parquet file.")
    ] = Path("classes.csv"),
) -> None:
    """Write the rates of each class, with their bounds, as a table."""
    from faal_core.exports.classes import write_classes

    write_classes(*reports, path=output)
    typer.echo(f"Written to {output}")


for command in (mlflow, wandb, huggingface, classes):
    app.command()(in_terms_of_options(command))
