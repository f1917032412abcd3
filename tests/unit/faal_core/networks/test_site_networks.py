"""A site's own networks: which functions of a file are offered, under which names, and how they are built."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from faal_core import catalog
from faal_core.catalog import ArgumentRange
from faal_core.catalog.site_networks import read_networks
from faal_core.errors import InvalidSpec
from faal_core.networks import build
from faal_core.specs import ClassifierSpec

NETS = '''
from typing import Annotated

import torch
from annotated_types import Interval
from torch import nn

from layers import linear

SHIFT = torch.ones(1)


class Shift(nn.Module):
    def forward(self, x):
        return x + SHIFT


def our_net(num_classes: int, channels: int, width: Annotated[int, Interval(ge=4, le=64)] = 8, bias: bool = True):
    """A small network.

    More about it.
    """
    layers = [nn.Conv2d(channels, width, 3, bias=bias), Shift(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, linear(width, num_classes))


def broken_net(*, num_classes, channels):
    raise RuntimeError("there is no such layer")


def no_net(num_classes, channels):
    return 3


def train(classifier, epochs): ...
def _hidden(num_classes, channels): ...
'''
LAYERS = "from torch import nn\n\n\ndef linear(a, b):\n    return nn.Linear(a, b)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with two files, one of which imports the other."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "layers.py").write_text(LAYERS)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("layers", None)
    catalog.offer_networks(None)


def make_spec(architecture: str, **arguments: int) -> ClassifierSpec:
    """Return a spec of 5 classes and one channel."""
    return ClassifierSpec(architecture=architecture, num_classes=5, arguments=arguments)


@pytest.mark.parametrize("file", ["", "nets.py"])
def test_public_functions_are_offered_by_name(folder: Path, file: str) -> None:
    """A file or a folder offers the public functions that take both parameters, with bounds, title and source."""
    networks = read_networks(folder / file)
    assert set(networks) == {"site/our_net", "site/broken_net", "site/no_net"}
    entry = networks["site/our_net"]
    assert entry.arguments == {"width": ArgumentRange(4, 64, 8)}
    assert (entry.title, entry.source) == ("A small network", "nets.py of this site")


def test_names_are_known_without_running_the_file(tmp_path: Path) -> None:
    """Reading and checking a spec imports no torch and executes nothing of the file."""
    file = tmp_path / "nets.py"
    file.write_text("raise SystemExit(9)\ndef net(num_classes, channels): ...\n")
    program = f"""
import pathlib, sys
from faal_core import catalog
from faal_core.specs import ClassifierSpec
catalog.offer_networks(pathlib.Path({str(file)!r}))
ClassifierSpec(architecture="site/net", num_classes=3)
print("torch" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"


def test_a_network_is_built_with_its_arguments(folder: Path) -> None:
    """A worker executes the file; a tensor that the file keeps is on the CPU, and the files beside it can be imported."""
    catalog.offer_networks(folder / "nets.py")
    assert build(make_spec("site/our_net"))(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    assert build(make_spec("site/our_net", width=16)).backbone.state_dict()["0.weight"].shape == (16, 1, 3, 3)
    with pytest.raises(ValidationError, match="width of site/our_net must be between 4 and 64, not 65"):
        make_spec("site/our_net", width=65)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken_net", "RuntimeError: there is no such layer"),
        ("no_net", "no_net returns a int instead of a torch.nn.Module"),
    ],
)
def test_a_failing_function_is_reported_by_name(folder: Path, name: str, reason: str) -> None:
    """The error names the network and the file, and repeats the reason for the administrator."""
    catalog.offer_networks(folder)
    with pytest.raises(InvalidSpec, match=rf"site/{name} cannot be built from nets\.py\. .*{reason}"):
        build(make_spec(f"site/{name}"))


def test_other_networks_replace_the_earlier_ones(folder: Path) -> None:
    """A process offers the networks of one path; without a path there are none."""
    catalog.offer_networks(folder)
    assert "site/our_net" in catalog.architectures()
    catalog.offer_networks(None)
    with pytest.raises(ValidationError, match="There is no architecture named 'site/our_net'"):
        make_spec("site/our_net")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "has no public function that takes num_classes and channels"),
        ({"a.py": "def f(num_classes): ..."}, "has no public function"),
        ({"a.py": "def f(:"}, r"a\.py is not valid Python: invalid syntax"),
        ({"a.py": "def f(num_classes, channels): '\0'"}, r"a\.py is not valid Python"),
        (
            {"a.py": "def f(num_classes, channels): ...", "b.py": "def f(num_classes, channels): ..."},
            r"b\.py defines f again",
        ),
        ({"a.py": "def f(num_classes, channels, depth): ..."}, "the parameter depth of f in a.py has no default"),
        (
            {"a.py": "def f(num_classes, channels, depth: Annotated[int, Field(ge=1, le=4)] = 9): ..."},
            "the default of depth of f in a.py is no whole number from 1 to 4",
        ),
    ],
)
def test_a_file_that_cannot_be_offered_is_refused(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    """The error names the file and the reason."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_networks(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A path that does not exist is an error of the operating system, in words."""
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_networks(tmp_path / "nets.py")
