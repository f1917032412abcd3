"""The version, the help, the completions and the lists of names that `faal` prints."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from faal_core import __version__, catalog
from faal_core.cli.commands import app
from faal_core.cli.input_options import INPUT
from faal_core.cli.spec_fields import spec_fields
from faal_core.specs import METHODS, FinetuneSpec

ROOT = Path(__file__).parents[4]
EXPORTS = ("export", *(f"export {target}" for target in ("mlflow", "wandb", "huggingface", "classes")))
EVIDENCE = ("pack", "verify", "sign", "create-key")
COMMANDS = ("audit", "finetune", "compare", "gate", "keep", "render", "catalog", "fields", *EVIDENCE, *EXPORTS)
INPUT_OPTIONS = {"weights", "weights_key", "network", "architecture", "num_classes", "mean", "std", "arguments", "name"} | {
    "class_names", "dataset", "data_root", "download", "part", "class_order", "resize", "crop", "class_groups", "cache"
}  # fmt: skip
FILE_OPTIONS = {
    "save_outcomes",
    "save_adversarial",
}  # further results, which a command writes only where they are named


def run_faal(*arguments: str, **environment: str) -> str:
    """Return what `faal` prints into a pipe."""
    quiet = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "GITHUB_ACTIONS"}}
    command = [sys.executable, "-m", "faal_core.cli", *arguments]
    answer = subprocess.run(command, env=quiet | environment, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout


def test_the_version_is_the_librarys() -> None:
    """`faal --version` prints name and version."""
    assert run_faal("--version") == f"faal {__version__}\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_not_cut(command: str) -> None:
    """At 80 columns the help has every word of every option's text, and no character that a terminal obeys."""
    text = run_faal(*command.split(), "--help", COLUMNS="80")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    words = " ".join(re.sub("[│╭╰─╮╯]", " ", text).split())
    own: Any = typer.main.get_command(app)
    for name in command.split():
        own = own.commands[name]
    parameters = own.params
    lines = [re.sub(r"^ *│|│ *$", "", line).strip() for line in text.splitlines()]
    words_in_lines = {word for line in lines for word in line.split()}
    for parameter in parameters:
        assert set(parameter.opts) <= words_in_lines or parameter.param_type_name == "argument"
        assert set((parameter.help or "").split()) <= words_in_lines, parameter.name
    assert words.count("…") == sum((parameter.help or "").count("…") for parameter in parameters) + (
        command == "finetune"
    )


@pytest.mark.parametrize("command", ["audit", "finetune"])
def test_there_are_few_options_beside_the_input(command: str) -> None:
    """A command has about ten options beside its input, and each option's text is a sentence."""
    group: Any = typer.main.get_command(app)
    parameters = [one for one in group.commands[command].params if one.name != "help"]
    panels = {parameter.name: parameter.rich_help_panel for parameter in parameters}
    input_options = INPUT_OPTIONS | ({"transfer_from"} if command == "audit" else set())
    assert {name for name, panel in panels.items() if panel == INPUT} == input_options
    assert len(panels.keys() - input_options - FILE_OPTIONS) <= 14
    assert None not in panels.values()
    assert all(re.fullmatch(r"[A-Z].*\.", parameter.help or "") for parameter in parameters)


def test_every_method_is_named() -> None:
    """The help of `--method` names each method of the library."""
    group: Any = typer.main.get_command(app)
    option = next(one for one in group.commands["finetune"].params if one.name == "method")
    assert {spec().type for spec in METHODS} <= set(re.findall(r"\w+", option.help))


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("faal audit --architecture wrn_34_1", {"wrn_34_10", "wrn_34_15"}),
        ("faal finetune --dataset cifar", {"cifar10", "cifar100"}),
        ("faal audit --attacks ", set(catalog.PRESETS)),
        ("faal finetune --set method.d", {"method.dro_radius=", "method.divergence="}),
        ("faal audit --set b", {"batch_size="}),
        ("faal au", {"audit"}),
    ],
)
def test_names_are_completed(line: str, completions: set[str]) -> None:
    """The shell's completion offers names of the catalog and fields of the command's spec."""
    cword = len(line.split(" ")) - 1
    assert set(run_faal(COMP_WORDS=line, COMP_CWORD=str(cword), _FAAL_COMPLETE="complete_bash").split()) == completions


def test_completion_can_be_installed() -> None:
    """The script for a shell can be printed."""
    assert "_FAAL_COMPLETE=complete_bash" in run_faal("--show-completion", "bash") + run_faal(
        "--show-completion", _FAAL_COMPLETE="source_bash"
    )


def test_the_fields_are_listed_a_line_each_in_a_pipe() -> None:
    """Outside a terminal, `faal fields` prints each field with its values and default on one line, at any width."""
    head, *lines = run_faal("fields", "finetune", COLUMNS="40").splitlines()
    assert head.split() == ["field", "values", "default", "meaning"]
    assert [line.split()[0] for line in lines] == [
        path for path, field in spec_fields(FinetuneSpec).items() if not field.is_group
    ]
    assert re.search(r"^training\.batch_size +whole number +128$", "\n".join(lines), re.MULTILINE)


def test_the_catalog_is_not_cut_in_a_pipe() -> None:
    """Outside a terminal, `faal catalog` prints each name and its whole title on one line."""
    lines = {re.sub(r"\s+", " ", line).strip() for line in run_faal("catalog", COLUMNS="40").splitlines()}
    assert {f"{preset.name} {preset.title}" for preset in catalog.PRESETS.values()} <= lines
