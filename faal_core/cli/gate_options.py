"""The options of `faal gate`, in the panels in which `--help` shows them."""

from pathlib import Path
from typing import Annotated, Any

import typer

REQUIREMENTS, JUDGEMENT, OUTPUT = "Requirements", "Judgement", "Output"


def _option(text: str, metavar: str, panel: str, *names: str, default: str | bool = True, **checks: Any) -> Any:  # noqa: ANN401 - as typer.Option
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, show_default=default, **checks)


def _require(text: str, metavar: str = "RATE") -> Any:  # noqa: ANN401 - as typer.Option
    return _option(text, metavar, REQUIREMENTS)


def _read(text: str, *names: str, **checks: Any) -> Any:  # noqa: ANN401 - as typer.Option
    return _option(text, "FILE", REQUIREMENTS, *names, exists=True, **checks)


def _write(text: str) -> Any:  # noqa: ANN401 - as typer.Option
    return _option(text, "FILE", OUTPUT, dir_okay=False)


Report = Annotated[
    Path, typer.Argument(exists=True, help="The report.json of an audit or a fine-tuning, or the folder that has it.")
]
PolicyFile = Annotated[
    Path | None,
    _read("Read the policy from a YAML or JSON file; other options override its values.", "--policy", dir_okay=False),
]
MinWorst = Annotated[float | None, _require("Require this robust accuracy of the worst class.")]
MinRobust = Annotated[float | None, _require("Require this robust accuracy over all images.")]
MinClean = Annotated[float | None, _require("Require this clean accuracy over all images.")]
MaxGap = Annotated[
    float | None, _require("Allow this gap between the mean and the smallest of the classes' robust accuracies.")
]
MinClass = Annotated[
    list[str] | None,
    _require('Require this robust accuracy of a class, such as "stop sign=0.4"; repeatable.', "NAME=RATE"),
]
MinGroup = Annotated[
    list[str] | None,
    _require("Require this robust accuracy of the worst group of a column; repeatable.", "COLUMN=RATE"),
]
Baseline = Annotated[
    Path | None,
    _read(
        "Require that no mean and no class is significantly worse than in this report.json, an audit of the same images.",
        "--baseline",
    ),
]
Tolerance = Annotated[
    float | None, _option("Allow falls from the baseline up to this size.", "RATE", REQUIREMENTS, default="0.01")
]
Confidence = Annotated[
    float | None, _option("The confidence of all conclusions together.", "RATE", JUDGEMENT, default="0.95")
]
Undecided = Annotated[
    str | None,
    _option(
        "Whether the gate fails (status 6) or passes where the images are too few to decide.",
        "fail|pass",
        JUDGEMENT,
        default="fail",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=OUTPUT)]
Junit = Annotated[Path | None, _write("Write the result as JUnit XML.")]
Sarif = Annotated[Path | None, _write("Write the result as SARIF 2.1.0.")]
Markdown = Annotated[Path | None, _write("Write the result as Markdown, for a pull request.")]
