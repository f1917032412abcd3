"""The options of `faal` about attacks, training, the spec and results, in the panels in which `--help` shows them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faal_core.catalog import PRESETS
from faal_core.cli import completion

if TYPE_CHECKING:
    import torch

ATTACKS, TRAINING, SPEC, RUN = "Attacks", "Training", "Spec", "Run and results"


def _settings(example: str, command: str) -> Any:  # noqa: ANN401 - as typer.Option
    """Return the option `--set` of that command."""
    return typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help=f"Set a field that has no option, such as {example}; `faal fields {command}` lists all "
        "fields; repeatable, the last value of a field counts.",
        autocompletion=completion.settings,
        rich_help_panel=SPEC,
    )


Epsilon = Annotated[
    str | None,
    typer.Option(
        metavar="RADIUS",
        help="The largest perturbation of an image, for pixels in [0, 1]: 8/255 or 0.1.",
        rich_help_panel=ATTACKS,
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(
        metavar="NORM",
        help="The norm that measures perturbations: linf or l2.",
        show_default="linf",
        rich_help_panel=ATTACKS,
    ),
]
Attacks = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET|LIST",
        help=f"A preset ({', '.join(PRESETS)}) or a JSON list of attacks; standard is AutoAttack's protocol.",
        show_default="pgd-20",
        autocompletion=completion.presets,
        rich_help_panel=ATTACKS,
    ),
]
Images = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="How many test images to audit, drawn from each class in proportion.",
        show_default="all",
        rich_help_panel=ATTACKS,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The method: faal, head, uniform, frl, cfa, wat, dafa, cfol, fsr, decosam or hwnwb; head and hwnwb train nothing.",
        show_default="faal",
        autocompletion=completion.methods,
        rich_help_panel=TRAINING,
    ),
]
LearningRates = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="The learning rates, one per epoch of a method that trains.",
        show_default="0.002,0.0002",
        rich_help_panel=TRAINING,
    ),
]
AuditSettings = Annotated[list[str] | None, _settings("batch_size=64", "audit")]
FinetuneSettings = Annotated[list[str] | None, _settings("training.batch_size=64", "finetune")]
SpecFile = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Read the spec from a JSON or TOML file; options and --set override its values.",
        rich_help_panel=SPEC,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        file_okay=False,
        metavar="DIR",
        help="The folder for the results; it is created if necessary.",
        rich_help_panel=RUN,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Stop after N minutes and report the results so far.",
        show_default="no limit",
        rich_help_panel=RUN,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        metavar="N",
        envvar="FAAL_PROCESSES",
        help="Audit and validate with N processes, each with one thread or one GPU. Every N from 2 on gives the same results.",
        show_default="chosen by a short measurement",
        rich_help_panel=RUN,
    ),
]
Ledger = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        metavar="FILE",
        help="Store every finished batch in this file, from which the same command resumes after a stop.",
        rich_help_panel=RUN,
    ),
]


def _ending(*endings: str) -> Callable[[Path | None], Path | None]:
    """Return the check that a file can be written and its name has one of the endings, before anything is computed."""

    def check(file: Path | None) -> Path | None:
        if file is not None and file.suffix not in endings:
            raise typer.BadParameter(f"the name {file.name} must end in {' or '.join(endings)}")
        if file is not None and not file.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {file.parent}")
        return file

    return check


SaveOutcomes = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        metavar="FILE",
        callback=_ending(".parquet", ".csv"),
        help="Write the outcome of each image to this .parquet or .csv file.",
        rich_help_panel=RUN,
    ),
]
SaveAdversarial = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        metavar="FILE",
        callback=_ending(".npy"),
        help="Write the adversarial images to this .npy file: n × c × h × w, float32 in [0, 1].",
        rich_help_panel=RUN,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The device to compute on: auto, cpu, cuda, cuda:1 …; auto takes a GPU if there is one.",
        rich_help_panel=RUN,
    ),
]
RequireWorst = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="RATE",
        help="Exit with status 3 if the worst class's robust accuracy may be below this rate.",
        rich_help_panel=RUN,
    ),
]
DecideWorst = Annotated[
    float | None,
    typer.Option(
        "--decide-worst",
        min=0,
        max=1,
        metavar="RATE",
        help="Audit images in random order only until the intervals decide whether each class's robust accuracy is at least "
        "this rate. It sets sequential.min_worst.",
        show_default="all images",
        rich_help_panel=ATTACKS,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only the report, as JSON.", rich_help_panel=RUN)]


def torch_device(name: str) -> "torch.device":
    """Return the device of that name. Raises: typer.BadParameter."""
    from faal_core.devices import find_device
    from faal_core.errors import InvalidSpec

    try:
        return find_device(name)
    except InvalidSpec as error:
        raise typer.BadParameter(error.message.removeprefix("device: ").rstrip("."), param_hint="--device") from None
