"""Documents that older versions wrote can still be read."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.older_documents import downgrade_report, upgrade_report
from faal_core.results.reading import read_report

VERSION_1 = (Path(__file__).parents[3] / "data" / "finetune_report_version_1.json").read_text()


def test_a_report_of_version_1_is_read():
    """A report of version 1 is read with every number under its present name."""
    old, report = json.loads(VERSION_1), read_report(VERSION_1)
    assert isinstance(report, FinetuneReport)
    assert report.model_dump()["version"] == 2
    assert report.validation_images == old["held_out_images"]
    assert report.selected_interpolation == old["selected_share"]
    assert report.selected_offset_scale == old["selected_offsets"]
    assert list(report.unscaled_class_offsets) == old["whole_class_offsets"]
    assert report.spec.training.validation_fraction == old["spec"]["training"]["held_out_share"]
    assert report.spec.training.averaging.min_robust_worst == old["spec"]["training"]["averaging"]["least_worst"]
    for epoch, row in zip(old["epochs"], report.epochs, strict=True):
        old_values = [epoch[name] for name in ("share", "held_out_clean", "held_out_mean", "held_out_worst")]
        assert old_values == [row.fraction, row.validation_clean, row.validation_robust, row.validation_robust_worst]
    for one, candidate in zip(old["candidates"], report.candidates, strict=True):
        old_values = [one[name] for name in ("share", "offsets", "mean", "worst")]
        assert old_values == [candidate.interpolation, candidate.offset_scale, candidate.robust, candidate.robust_worst]


def test_the_first_bound_had_another_name():
    """A report with `mean_may_fall` bounds the robust mean alone, as its fine-tuning did."""
    old = json.loads(VERSION_1)
    for name in ("max_robust_drop", "max_clean_drop", "max_class_drop"):
        del old["spec"]["training"][name]
    old["spec"]["training"]["mean_may_fall"] = 0.02
    training = read_report(json.dumps(old)).spec.training
    assert (training.max_robust_drop, training.max_clean_drop) == (0.02, None)


def test_an_upgraded_report_stays_the_same():
    """A report of version 2 is upgraded to itself, and a downgrade undoes the upgrade."""
    new = upgrade_report(json.loads(VERSION_1))
    assert upgrade_report(new) == new
    assert downgrade_report(new) == json.loads(VERSION_1)


@pytest.mark.parametrize("field", ["spec", "epochs", "candidates"])
@pytest.mark.parametrize("value", [None, 3, [1], {"training": None}, {"training": []}])
def test_a_malformed_report_is_refused_by_its_field(field: str, value: object) -> None:
    """A report of version 1 with a field of a wrong form is refused by validation, which names the field."""
    with pytest.raises(ValidationError, match=field):
        read_report(json.dumps({**json.loads(VERSION_1), field: value}))


@pytest.mark.parametrize("field", ["spec", "epochs"])
def test_a_report_without_a_field_is_refused_by_it(field: str) -> None:
    """A report of version 1 that lacks a field is refused by validation, which names the field."""
    old = json.loads(VERSION_1)
    del old[field]
    with pytest.raises(ValidationError, match=field):
        read_report(json.dumps(old))
