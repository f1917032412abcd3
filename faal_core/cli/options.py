"""The options of `faal`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from faal_core.catalog import PRESETS

if TYPE_CHECKING:
    import torch

DATA_ROOT = Path("data")

Weights = Annotated[
    Path,
    typer.Option(exists=True, dir_okay=False, help="The classifier: .safetensors, or a state dict in .pt or .pth."),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        help="Which weights to read where the file holds several sets, such as state_dict_ema; the error lists their keys."
    ),
]
Dataset = Annotated[
    str, typer.Option(help="A name from `faal catalog`, or a path: .npz, .zip or a folder of class folders.")
]
Out = Annotated[Path, typer.Option(file_okay=False, help="The folder for the results; made when it is not there.")]
Architecture = Annotated[
    str | None, typer.Option(help="A name from `faal catalog`, for weights that do not say what network they are for.")
]
NumClasses = Annotated[
    int | None, typer.Option(help="With --architecture: how many classes the network has, such as 10.")
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="With --architecture: per channel, pixels in [0, 1]; one value serves all channels.", show_default="0.0"
    ),
]
Std = Annotated[
    str | None, typer.Option(help="With --architecture: per channel, as many values as --mean.", show_default="1.0")
]
Argument = Annotated[
    list[str] | None, typer.Option("--argument", help="With --architecture: one of its own, such as width=16.")
]
Name = Annotated[str | None, typer.Option(help="What the report calls the classifier.", show_default="the file's name")]
DataRoot = Annotated[Path, typer.Option(help="The folder of a named data set's files, laid out as torchvision's root.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a named data set whose files are missing.")]
ImagePart = Annotated[Literal["test", "validation", "train"], typer.Option("--part", help="The images to audit.")]
TestPart = Annotated[
    Literal["test", "validation"], typer.Option("--part", help="The images to audit before and after the training.")
]
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
Norm = Annotated[str | None, typer.Option(help="linf or l2, also written Linf, L∞, inf or L2.", show_default="linf")]
Attacks = Annotated[
    str | None,
    typer.Option(
        help=f"A preset ({', '.join(PRESETS)}), or a JSON list of attacks; standard is AutoAttack's protocol.",
        show_default="pgd-20",
    ),
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
    str | None, typer.Option(help="One per epoch, such as 0.002,0.0002.", show_default="0.002,0.0002")
]
Steps = Annotated[int | None, typer.Option(help="Of the attack in training.", show_default="10")]
Ledger = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="A file in which every finished batch is stored at once; the same command resumes from it after a stop.",
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
