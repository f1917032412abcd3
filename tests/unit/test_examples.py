"""The examples for pipelines: their own steps run here, on prepared audits, with stand-ins for what needs a server."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from faal_core.reports import files
from faal_core.results.gates.judging import judge_audit
from faal_core.specs import Policy
from faal_core.specs.policy_file import read_policy_document
from tests.sample_reports import ROBUST_BEFORE, sample_outcomes

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLASSES = tuple(np.load(ROOT / "faal_core/bundled/fashion_mnist_subset.npz")["class_names"].tolist())
# `faal audit` of the examples copies a prepared audit; every other command is the real one. pip installs nothing.
FAAL = """#!/bin/bash
if [ "$1" = audit ]; then exec cp -r prepared "${@: -1}"; fi
exec "$PYTHON" -m faal_core.cli "$@"
"""
PYTHON = '#!/bin/bash\n[ "$1 $2 $3" = "-m pip install" ]\n'


class Outcome(NamedTuple):
    """The exit status of the first step that failed, or 0, its name, and what all steps printed."""

    status: int
    step: str
    printed: str


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the policy, a prepared audit and the stand-ins."""
    shutil.copy(EXAMPLES / "robustness.yaml", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("faal", FAAL), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return tmp_path


def save_audit(folder: Path, robust: tuple[float, ...] = ROBUST_BEFORE, seed: int = 1) -> None:
    """Write an audit with those true rates; audits with different seeds are of equal models."""
    report, outcomes = sample_outcomes(CLASSES, robust, seed=seed)
    files.save(report, folder, outcomes)


def fall(name: str, size: float) -> tuple[float, ...]:
    """Return the rates of the sample, of which one class has fallen."""
    return tuple(rate - size * (one == name) for one, rate in zip(CLASSES, ROBUST_BEFORE, strict=True))


def run_steps(
    checkout: Path, environment: Mapping[str, str], steps: Iterator[tuple[str, str, Mapping[str, str]]]
) -> Outcome:
    """Run the steps (name, script, variables) as a runner does, up to the first that fails."""
    base = os.environ | {
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }
    printed = ""
    for name, script, variables in steps:
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        answer = subprocess.run(
            command, cwd=checkout, env=base | environment | variables, capture_output=True, text=True, check=False
        )
        printed += answer.stdout + answer.stderr
        if answer.returncode:
            return Outcome(answer.returncode, name, printed)
    return Outcome(0, "", printed)


def github_steps() -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Yield the steps of the workflow and of the action that it uses, up to the gate, as GitHub runs them."""
    action = yaml.safe_load((EXAMPLES / "github/action.yml").read_text("utf-8"))
    job = yaml.safe_load((EXAMPLES / "github/robustness.yml").read_text("utf-8"))["jobs"]["audit"]
    for step in job["steps"]:
        if "run" in step and "if" not in step:
            yield step["name"], step["run"], job["env"]
        elif step.get("uses", "").startswith("./"):
            assert step["with"].keys() <= action["inputs"].keys()
            inputs = {name: one.get("default", "") for name, one in action["inputs"].items()} | step["with"]
            for inner in action["runs"]["steps"]:
                yield step["name"], inner["run"], {name: fill(value, inputs) for name, value in inner["env"].items()}


def fill(text: str, inputs: Mapping[str, Any]) -> str:
    """Return the text with the inputs in place of expressions."""
    return re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: str(inputs[match[1]]), text)


def run_workflow(checkout: Path) -> Outcome:
    """Run the example workflow as GitHub does."""
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(checkout / "summary.md"),
        "GITHUB_OUTPUT": str(checkout / "output"),
    }
    return run_steps(checkout, environment, github_steps())


def test_a_planted_regression_fails_the_workflow_and_is_annotated(checkout: Path) -> None:
    """A class that lost 25 points fails the step of the gate; the annotation, the summary and all files name it."""
    save_audit(checkout / "baseline")
    save_audit(checkout / "prepared", fall("Bag", 0.25), seed=2)
    outcome = run_workflow(checkout)
    assert (outcome.status, outcome.step) == (3, "Gate")
    assert re.search(
        r"^::error title=faal gate%3A baseline\.robust\.classes \(Bag\)::.*significantly more",
        outcome.printed,
        re.MULTILINE,
    )
    assert "| baseline&#46;robust&#46;classes (Bag) |" in (checkout / "summary.md").read_text("utf-8")
    assert (checkout / "output").read_text() == "status=3\n"
    assert 'type="fail"' in (checkout / "faal-gate.xml").read_text("utf-8")
    assert '"level": "error"' in (checkout / "faal-gate.sarif").read_text("utf-8")
    assert "❌" in (checkout / "faal-gate.md").read_text("utf-8")


@pytest.mark.parametrize("seed", range(2, 5))
def test_noise_passes_the_workflow(checkout: Path, seed: int) -> None:
    """An equal model, whose measured rates differ, passes without any annotation."""
    save_audit(checkout / "baseline")
    save_audit(checkout / "prepared", seed=seed)
    outcome = run_workflow(checkout)
    assert (outcome.status, outcome.step) == (0, ""), outcome.printed
    assert "::" not in outcome.printed
    assert (checkout / "summary.md").read_text("utf-8").startswith("### Robustness gate: passed")
    assert (checkout / "output").read_text() == "status=0\n"


def test_a_first_run_has_no_baseline(checkout: Path) -> None:
    """Where no baseline was restored the policy alone counts, and a notice says so."""
    save_audit(checkout / "prepared")
    outcome = run_workflow(checkout)
    assert outcome.status == 0
    assert "::notice title=faal gate::There is no baseline yet." in outcome.printed


def test_too_few_images_are_undecided_in_the_workflow(checkout: Path) -> None:
    """With 20 images per class the job ends with status 6."""
    report, outcomes = sample_outcomes(CLASSES, images=20)
    files.save(report, checkout / "prepared", outcomes)
    outcome = run_workflow(checkout)
    assert (outcome.status, outcome.step) == (6, "Gate")
    assert "::error title=faal gate%3A min_worst::" in outcome.printed


@pytest.mark.parametrize(("size", "status"), [(0.25, 3), (0.0, 0)])
def test_the_gitlab_template_fails_on_a_regression_alone(checkout: Path, size: float, status: int) -> None:
    """The script of the job fails where a class fell and passes on noise, and writes the JUnit report that it declares."""
    save_audit(checkout / "baseline")
    save_audit(checkout / "prepared", fall("Bag", size), seed=2)
    job = yaml.safe_load((EXAMPLES / "gitlab/faal-gate.yml").read_text("utf-8"))[".faal-gate"]
    outcome = run_steps(checkout, job["variables"], iter([("gate", "\n".join(job["script"]), {})]))
    assert outcome.status == status, outcome.printed
    assert (checkout / job["artifacts"]["reports"]["junit"]).exists()


def test_values_of_the_action_are_never_part_of_its_script() -> None:
    """Inputs reach the script as variables, so a branch or file name cannot add commands."""
    action = yaml.safe_load((EXAMPLES / "github/action.yml").read_text("utf-8"))
    workflow = yaml.safe_load((EXAMPLES / "github/robustness.yml").read_text("utf-8"))
    for step in [*action["runs"]["steps"], *workflow["jobs"]["audit"]["steps"]]:
        assert "${{" not in step.get("run", "")


def test_the_example_policy_judges_the_bundled_data_set() -> None:
    """The policy of the examples can be read, and names only classes of the bundled data set."""
    policy = Policy.model_validate(read_policy_document(EXAMPLES / "robustness.yaml"))
    assert policy.min_worst == 0.25
    assert judge_audit(policy, sample_outcomes(CLASSES)[0]).status == "pass"


def test_the_prepared_audits_differ() -> None:
    """The audits of equal models are not the same audit: noise changes many images."""
    first, second = (sample_outcomes(seed=seed)[1].evaluation for seed in (1, 2))
    assert np.count_nonzero(first.robust != second.robust) > 20
