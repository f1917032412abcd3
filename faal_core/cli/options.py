"""The options of `faal`, and how they become specs. An option left out leaves the spec's own default in place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from faal_core.catalog import PRESETS

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel, ValidationError

    from faal_core.specs import ClassifierSpec

    Checked = TypeVar("Checked", bound=BaseModel)

MAX_ERRORS = 20

Weights = Annotated[
    Path,
    typer.Option(exists=True, dir_okay=False, help="The classifier: .safetensors, or a state dict in .pt or .pth."),
]
Dataset = Annotated[
    str, typer.Option(help="A name from `faal catalog`, or a path: .npz, .zip or a folder of class folders.")
]
Out = Annotated[Path, typer.Option(file_okay=False, help="The folder for the results; made when it is not there.")]
Architecture = Annotated[
    str | None, typer.Option(help="A name from `faal catalog`, for weights that do not say what network they are for.")
]
NumClasses = Annotated[int | None, typer.Option(help="With --architecture.")]
Mean = Annotated[
    str | None, typer.Option(help="With --architecture: per channel, pixels in [0, 1].", show_default="0.0")
]
Std = Annotated[str | None, typer.Option(help="With --architecture: per channel.", show_default="1.0")]
Argument = Annotated[list[str] | None, typer.Option(help="With --architecture: one of its own, such as width=16.")]
Name = Annotated[str | None, typer.Option(help="What the report calls the classifier.", show_default="the file's name")]
DataRoot = Annotated[Path, typer.Option(help="The folder with torchvision's files of named data sets.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a named data set whose files are missing.")]
ImagePart = Annotated[Literal["test", "validation", "train"], typer.Option("--part", help="The images to audit.")]
ClassNames = Annotated[
    str | None,
    typer.Option(
        help="The network's classes in the order of its outputs: names with commas between, a JSON list, or a file with one "
        "name a line.",
        show_default="those in the weights' file, if any",
    ),
]
ClassOrder = Annotated[
    Literal["natural", "string"] | None,
    typer.Option(
        help="The order of class folders for a network without class names: natural (0, 1, 2, 10) or string (0, 1, 10, 2).",
        show_default="natural if all names are numbers, else string",
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(help="Resize image files as torchvision does: 256 is the shorter side, 32,32 is height and width."),
]
Crop = Annotated[int | None, typer.Option(min=1, max=2048, help="Then crop image files to the central N × N pixels.")]
Epsilon = Annotated[str | None, typer.Option(help="The radius, pixels in [0, 1]: 8/255 or 0.1.")]
Norm = Annotated[str | None, typer.Option(help="linf or l2.", show_default="linf")]
Attacks = Annotated[
    str | None,
    typer.Option(help=f"A preset ({', '.join(PRESETS)}), or a JSON list of attacks.", show_default="pgd-20"),
]
Images = Annotated[
    int | None, typer.Option(help="Test images, drawn from each class in proportion.", show_default="all")
]
Confidence = Annotated[float | None, typer.Option(help="Of all intervals of a kind together.", show_default="0.95")]
AuditBatch = Annotated[int | None, typer.Option("--batch-size", help="Images at a time.", show_default="250")]
TrainingBatch = Annotated[int | None, typer.Option("--batch-size", help="Images a step.", show_default="128")]
Seed = Annotated[int | None, typer.Option(help="Of everything that is drawn.", show_default="0")]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="After so long it comes to an end with what was found until then: attacks that are missing are told, training stops "
        "early enough for the second audit.",
        show_default="no end",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="faal, uniform, frl, cfa, wat, dafa or cfol: how classes are made to count.", show_default="faal"
    ),
]
Loss = Annotated[str | None, typer.Option(help="at, trades or mart.", show_default="the method's")]
DroRadius = Annotated[
    float | None,
    typer.Option(help="Of faal: how far class weights may go, in nats; 0 keeps them equal.", show_default="0.2"),
]
MaxRobustDrop = Annotated[
    float | None,
    typer.Option(
        help="Bound on the fall of the mean robust accuracy, on held-out images; 1 allows any.", show_default="0.01"
    ),
]
MaxCleanDrop = Annotated[
    float | None,
    typer.Option(
        help="Bound on the fall of the mean clean accuracy, on held-out images; 1 allows any.", show_default="0.01"
    ),
]
MaxClassDrop = Annotated[
    float | None,
    typer.Option(help="Bound on the fall of any single class, clean and robust.", show_default="no bound"),
]
Augment = Annotated[
    str | None,
    typer.Option(
        help="Random changes of the training images: none, crop, flip (left to right) or crop-flip.",
        show_default="what the data set states; none for your own images",
    ),
]
Preset = Annotated[str | None, typer.Option(help="paper: FAAL as it was published, unless told otherwise.")]
LearningRates = Annotated[
    str | None, typer.Option(help="One per epoch, such as 0.01,0.001.", show_default="0.01,0.001")
]
Steps = Annotated[int | None, typer.Option(help="Of the attack in training.", show_default="10")]
Ledger = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="A file that keeps every verdict as it comes; the same command goes on from it after a stop.",
    ),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Attack no further: report what the --ledger of an unfinished audit knows.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …; auto takes a GPU where there is one.")]
SpecFile = Annotated[
    Path | None,
    typer.Option("--spec", exists=True, dir_okay=False, help="The spec as a JSON file; other options win over it."),
]
RequireWorst = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Exit with 3 when the worst class's robust accuracy may lie below this rate."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")]


def numbers(text: str | None) -> list[str] | None:
    """The parts of a list with commas, for a spec to read as numbers."""
    return None if text is None else text.split(",")


def attacks(text: str | None) -> object:
    """What `--attacks` stands for: a preset's name, or the attacks of a JSON list. Raises: typer.BadParameter."""
    return _json(text, "--attacks") if text is not None and text.lstrip().startswith("[") else text


def _json(text: str | bytes, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=where) from None


def build_spec(spec: "type[Checked]", file: Path | None, given: Mapping[str, object]) -> "Checked":
    """The spec in `file`, if any, with the given options over it.

    Raises: typer.BadParameter for a file that is no JSON object; typer.Exit(2) after the errors were printed.
    """
    written = _json(file.read_bytes(), "--spec") if file else {}
    if not isinstance(written, dict):
        raise typer.BadParameter("the file holds no JSON object", param_hint="--spec")
    return check(spec, _merged(written, given))


def classifier_spec(
    architecture: str | None, num_classes: int | None, mean: str | None, std: str | None, arguments: list[str] | None
) -> "ClassifierSpec | None":
    """The network that the options describe; None when the weights must say it.

    Raises: typer.BadParameter, and typer.Exit(2) as `build_spec`.
    """
    from faal_core.specs import ClassifierSpec

    if architecture is None:
        if any(option is not None for option in (num_classes, mean, std)) or arguments:
            raise typer.BadParameter("--num-classes, --mean, --std and --argument go with --architecture")
        return None
    pairs = [text.partition("=") for text in arguments or []]
    if any(not sign for _, sign, _ in pairs):
        raise typer.BadParameter("an argument is written name=value", param_hint="--argument")
    given = {
        "architecture": architecture,
        "num_classes": num_classes,
        "mean": numbers(mean),
        "std": numbers(std),
        "arguments": {name: value for name, _, value in pairs},
    }
    return check(ClassifierSpec, _merged({}, given))


def _merged(under: dict[str, Any], over: Mapping[str, object]) -> dict[str, Any]:
    """Both together; where both speak, `over`. None in `over` is silence."""
    merged = dict(under)
    for name, value in over.items():
        if isinstance(value, Mapping):
            inner = merged.get(name)
            merged[name] = _merged(inner if isinstance(inner, dict) else {}, value)
        elif value is not None:
            merged[name] = value
    return merged


def check(model: "type[Checked]", fields: Mapping[str, object]) -> "Checked":
    """The fields as that model. Raises: typer.Exit(2) after the errors were printed as "field.path: message"."""
    from pydantic import ValidationError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise rejected(error) from None


def rejected(error: "ValidationError") -> typer.Exit:
    """The exit with code 2, after the errors were printed, one a line."""
    from faal_core.reports.text import shown

    errors = error.errors(include_url=False, include_input=False, include_context=False)
    for found in errors[:MAX_ERRORS]:
        path = ".".join(str(step) for step in found["loc"]) or "document"
        typer.echo(shown(f"{path}: {found['msg'].removeprefix('Value error, ')}"), err=True)
    if len(errors) > MAX_ERRORS:
        typer.echo(f"… and {len(errors) - MAX_ERRORS} more", err=True)
    return typer.Exit(2)


def torch_device(name: str) -> "torch.device":
    """The device of that name. Raises: typer.BadParameter."""
    import torch

    here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    here += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else "cpu")
    if name not in here:
        raise typer.BadParameter(f"{name!r} is no device here; write auto, {', '.join(here)}", param_hint="--device")
    return torch.device(name)
