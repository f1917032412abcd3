"""The options of `faal` about weights and images, in a panel of their own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from faal_core.cli import completion

DATA_ROOT = Path("data")
INPUT = "Input"

Weights = Annotated[
    Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="The file with the classifier: .safetensors, or a state dict in .pt or .pth.",
        rich_help_panel=INPUT,
    ),
]
OptionalWeights = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="The file with the classifier: .safetensors, a state dict in .pt or .pth, or, for an audit, .onnx. With --network "
        "it may be left out.",
        rich_help_panel=INPUT,
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py:NAME",
        help="Build the network with your own code, which is executed: a class or function in a file, or MODULE:NAME. Needs "
        "--num-classes.",
        rich_help_panel=INPUT,
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="The key of the weights to read from a file that holds several sets, such as state_dict_ema.",
        rich_help_panel=INPUT,
    ),
]
Dataset = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help="The data set: a name from `faal catalog`, an .npz, .zip, .parquet or .tar file, or a folder of class folders or "
        "of .parquet or .tar files.",
        autocompletion=completion.datasets,
        rich_help_panel=INPUT,
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The network's name in `faal catalog`, for weights that do not state it.",
        autocompletion=completion.architectures,
        rich_help_panel=INPUT,
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="With --architecture or --network: how many classes the network has, such as 10.",
        rich_help_panel=INPUT,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="With --architecture, --network or an ONNX file: the mean that is subtracted from pixels in [0, 1], per channel or "
        "once for all.",
        show_default="0.0",
        rich_help_panel=INPUT,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="With --architecture, --network or an ONNX file: the standard deviation that pixels are divided by, as many values "
        "as --mean.",
        show_default="1.0",
        rich_help_panel=INPUT,
    ),
]
Argument = Annotated[
    list[str] | None,
    typer.Option(
        "--argument",
        metavar="NAME=N",
        help="With --architecture or --network: an argument of the network, such as width=16; repeatable.",
        rich_help_panel=INPUT,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="The classifier's name in the report.",
        show_default="the file's name",
        rich_help_panel=INPUT,
    ),
]
DataRoot = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="The folder with the files of named data sets, laid out as torchvision's root.",
        rich_help_panel=INPUT,
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch a named data set whose files are missing.", rich_help_panel=INPUT),
]
ImagePart = Annotated[
    Literal["test", "validation", "train"],
    typer.Option(
        "--part", metavar="PART", help="The images to audit: test, validation or train.", rich_help_panel=INPUT
    ),
]
TestPart = Annotated[
    Literal["test", "validation"],
    typer.Option(
        "--part",
        metavar="PART",
        help="The images to audit before and after the training: test or validation.",
        rich_help_panel=INPUT,
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        metavar="LIST|FILE",
        help="The classes in the order of the network's outputs: names separated by commas, a JSON list, or a file with one "
        "name a line.",
        show_default="the weights' own",
        rich_help_panel=INPUT,
    ),
]
ClassOrder = Annotated[
    Literal["natural", "string"] | None,
    typer.Option(
        metavar="ORDER",
        help="The order of class folders for a network without class names: natural (0, 1, 2, 10) or string (0, 1, 10, 2).",
        show_default="natural if all names are numbers, else string",
        rich_help_panel=INPUT,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="N|H,W",
        help="Resize image files as torchvision does: 256 is the shorter side, 32,32 is height and width.",
        rich_help_panel=INPUT,
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2048,
        metavar="N",
        help="Crop image files to their central N × N pixels, after --resize.",
        rich_help_panel=INPUT,
    ),
]
ClassGroups = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="A table with the columns class and group, or a JSON object: the report breaks results down by these groups of "
        "classes.",
        show_default="class_groups.csv in the data set",
        rich_help_panel=INPUT,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        metavar="DIR",
        help="Keep decoded images in this folder, so that the next run starts sooner. Without it, only data sets of 1 GiB or "
        "more are kept.",
        show_default="image-cache beside --ledger, else ~/.cache/faal",
        rich_help_panel=INPUT,
    ),
]
TransferFrom = Annotated[
    list[Path] | None,
    typer.Option(
        "--transfer-from",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Attack by the gradients of another network, too, whose weights are in this file: for classifiers that hide "
        "their own. It has the same classes; repeatable, at most 3 files.",
        rich_help_panel=INPUT,
    ),
]
