"""`faal.gate`: results and reports, keyword arguments, policy files and baselines."""

import importlib
from pathlib import Path

import pytest

import faal_core as faal
from faal_core.errors import InvalidSpec
from faal_core.reports import files
from faal_core.results.gates.judging import judge_audit
from faal_core.results.reading import StoredAudit
from faal_core.specs import Policy
from tests.sample_reports import FASHION, ROBUST_BEFORE, sample_audit, sample_finetune, sample_outcomes


def test_requirements_are_keyword_arguments(tmp_path: Path) -> None:
    """Fields of the policy are given by name, or in a file whose fields they override."""
    assert faal.gate(sample_audit(), min_worst=0.2).passed
    assert not faal.gate(sample_audit(), min_class={"shirt": 0.9}).passed
    (tmp_path / "policy.yaml").write_text("min_worst: 0.9\nundecided: pass\n")
    result = faal.gate(sample_audit(), policy=tmp_path / "policy.yaml", min_worst=0.2)
    assert (result.status, result.policy.undecided) == ("pass", "pass")


def test_a_baseline_is_compared_image_by_image(tmp_path: Path) -> None:
    """Results with outcomes are compared, also those that were read from files; a tolerance is a field of the policy."""
    rates = tuple(rate - 0.3 * (name == "bag") for name, rate in zip(FASHION, ROBUST_BEFORE, strict=True))
    before, after = StoredAudit(*sample_outcomes()), StoredAudit(*sample_outcomes(robust=rates))
    files.save(before.report, tmp_path, before.outcomes)
    for baseline in (before, tmp_path, str(tmp_path / "report.json")):
        assert faal.gate(after, baseline=baseline).status == "fail"
        assert faal.gate(after, baseline=baseline, tolerance=0.5).status == "pass"
    assert faal.gate(tmp_path, baseline=before).status == "pass"


def test_a_finetuning_is_judged_by_its_new_weights() -> None:
    """The audit after the training is judged, and compared with the one before it where the policy has a baseline."""
    report = sample_finetune()
    result = faal.gate(report, min_worst=0.2, policy=None)
    assert result.requirements[0].value == report.after.robust.worst.value
    assert [one.name for one in faal.gate(report, tolerance=0.1).requirements] == [
        f"baseline.{one}" for one in ("clean.mean", "clean.classes", "robust.mean", "robust.classes")
    ]


def test_a_result_shows_itself() -> None:
    """`print` shows the text of `faal gate`, and a notebook a table; the document is that of the gate."""
    result = faal.gate(sample_audit(), min_worst=0.2)
    assert str(result).startswith("The gate passed: 1 met")
    assert "<table>" in result._repr_html_()
    assert result.model_dump() == judge_audit(Policy(min_worst=0.2), sample_audit()).model_dump()


def test_errors_say_what_to_pass() -> None:
    """A wrong field, no field and a report without outcomes are explained."""
    with pytest.raises(InvalidSpec, match="min_wurst: there is no such field"):
        faal.gate(sample_audit(), min_wurst=0.2)
    with pytest.raises(InvalidSpec, match="no requirement"):
        faal.gate(sample_audit())
    with pytest.raises(InvalidSpec, match="Pass the result of `audit`"):
        faal.gate(sample_audit(), baseline=StoredAudit(*sample_outcomes()))


def test_the_function_is_not_hidden_by_modules() -> None:
    """Modules named gate are imported, and `faal.gate` is still the function."""
    for module in ("faal_core.results.gates.judging", "faal_core.cli.gate", "faal_core.reports.gate_call"):
        importlib.import_module(module)
    assert callable(faal.gate)
    assert faal.gate is importlib.import_module("faal_core.reports.gate_call").gate
