"""Tables of methods: means and ranges over seeds, the order, and the fine-tunings that cannot be in one table."""

from pathlib import Path

import pytest

import faal_core as faal
from faal_core.errors import InvalidSpec
from faal_core.reports import html, terminal
from faal_core.results.documents import Interval, Rate
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table import read_reports, tabulate_methods
from faal_core.results.method_table_documents import SeedSummary
from faal_core.results.reading import read_any_report
from faal_core.specs import CfaMethod, FaalMethod, HeadMethod, UniformMethod
from faal_core.threat_model import ThreatModel
from tests.sample_reports import WARNING, sample_finetune

SAMPLE = sample_finetune()
FAAL = FaalMethod()
EIGHTS = {0: (0.25, 0.125, 0.5), 1: (0.5, 0.375, 0.75), 2: (0.375, 0.0625, 0.625)}
"""By seed: robust accuracy of the worst class, its lower bound, and mean robust accuracy. Binary fractions have exact means."""


def report_on(seed: int = 0, method=FAAL, scale: float = 1.0, **changes) -> FinetuneReport:
    """Return the report of a fine-tuning whose accuracies are those of the seed times `scale`; `changes` are of the report."""
    worst, low, mean = (scale * rate for rate in EIGHTS[seed])
    spread = SAMPLE.after.robust.model_copy(
        update={
            "worst": Interval(value=worst, low=low, high=1),
            "mean": Rate(count=round(64 * mean), images=64, rate=mean, low=0, high=1),
        }
    )
    change = Interval(value=worst - 0.25, low=-1, high=1)
    values = {
        "seconds": 60.0 * (seed + 1),
        "spec": SAMPLE.spec.model_copy(
            update={"method": method, "training": SAMPLE.spec.training.model_copy(update={"seed": seed})}
        ),
        "after": SAMPLE.after.model_copy(update={"robust": spread}),
        "robust": SAMPLE.robust.model_copy(update={"worst_change": change, "mean_change": change}),
    }
    return SAMPLE.model_copy(update={**values, **changes})


def test_a_method_has_the_mean_and_the_range_of_its_seeds() -> None:
    """The figures of a method are the means and extremes over its seeds, and the bound is the smallest one."""
    table = tabulate_methods([report_on(seed) for seed in (2, 0, 1)])
    (row,) = table.methods
    assert [seed.seed for seed in row.seeds] == [0, 1, 2]
    assert row.robust_worst == SeedSummary(mean=0.375, lowest=0.25, highest=0.5)
    assert row.robust_mean == SeedSummary(mean=0.625, lowest=0.5, highest=0.75)
    assert row.robust_worst_change == SeedSummary(mean=0.125, lowest=0, highest=0.25)
    assert (row.robust_worst_low, row.minutes) == (0.0625, 2)
    assert row.clean_mean.mean == pytest.approx(SAMPLE.after.clean.mean.rate)
    assert table.given_model == SAMPLE.before.model_copy(update={"gallery": ()})
    assert (table.differences, table.missing, table.fine_tunings) == ((), 0, 3)


def test_the_most_robust_worst_class_comes_first() -> None:
    """Methods are in descending order of the mean of the worst class; equal names get the fields that differ."""
    plain, with_offsets = UniformMethod(), UniformMethod(class_offsets=True)
    table = tabulate_methods(
        [report_on(0, plain), report_on(1, with_offsets), report_on(0, with_offsets), report_on(2, CfaMethod(), 1.5)]
    )
    assert [(row.name, row.robust_worst.mean) for row in table.methods] == [
        ("CFA (at)", 0.5625),
        ("UNIFORM (at), class_offsets = true", 0.375),
        ("UNIFORM (at), class_offsets = false", 0.25),
    ]


def test_a_method_without_training_has_no_epochs() -> None:
    """The table counts 0 epochs for a method that trains nothing, and does not say that a time limit ended its training."""
    report = report_on(0, HeadMethod(), epochs=())
    table = tabulate_methods([report])
    assert [(row.name, row.seeds[0].epochs) for row in table.methods] == [("Head (class offsets)", 0)]
    assert "time limit" not in terminal.summary(table)


def test_the_table_is_text_page_document_and_frame(tmp_path: Path) -> None:
    """Text and page have the best method, the given model, every seed, and what is missing; the JSON is read back."""
    doubted = report_on(1, scale=1.25).after.model_copy(
        update={"warnings": (WARNING.model_copy(update={"code": "zero-gradient"}),)}
    )
    reports = [
        report_on(0, scale=1.25),
        report_on(1, scale=1.25, after=doubted),
        report_on(2, UniformMethod(), 0.5),
    ]
    table = tabulate_methods(reports, requested=5)
    for shown in (terminal.summary(table), html.render(table)):
        assert "after FAAL (at, DRO radius r = 0.2): 46.9 % [31.2 % to 62.5 %]" in shown
        assert "Without a report: 2 of 5 fine-tunings" in shown
        assert "1 of 3 fine-tunings, 1 by FAAL (at, DRO radius r = 0.2), may be far too high (zero-gradient)" in shown
        assert "+21.9 [+6.2 to +37.5]" in shown
        assert "given model" in shown
    assert read_any_report(table.model_dump_json()) == table
    for number, report in enumerate(reports):
        (tmp_path / f"{number}.json").write_text(report.model_dump_json())
    stored = faal.tabulate_finetunings([reports[0], *(tmp_path / f"{number}.json" for number in (1, 2))])
    assert list(stored.to_frame()["robust_worst"]) == [0.3125, 0.625, 0.1875]
    stored.save(tmp_path / "table")
    with pytest.raises(InvalidSpec, match="is a method-table, not the report of a fine-tuning"):
        faal.tabulate_finetunings([tmp_path / "table"])
    with pytest.raises(InvalidSpec, match="A int is not the result of a fine-tuning"):
        faal.tabulate_finetunings([7])  # type: ignore[list-item]


def test_reports_are_read_without_most_of_their_classes() -> None:
    """The table of reports that were read for it equals the table of the whole reports."""
    reports = [report_on(seed, method) for method in (FAAL, UniformMethod()) for seed in EIGHTS]
    read = list(read_reports(report.model_dump_json() for report in reports))
    assert read[0] == reports[0]
    assert [len(report.after.classes) for report in read[1:]] == [1] * 5
    whole, table = tabulate_methods(reports), tabulate_methods(read)
    assert table == whole.model_copy(update={"created_at": table.created_at})


def test_a_method_that_does_not_help_is_called_none() -> None:
    """If the best mean is not above the given model's worst class, the first sentence says that no method helps."""
    assert SAMPLE.before.robust.worst.value > 0.125
    assert "no method makes the worst class more robust" in terminal.summary(
        tabulate_methods([report_on(0, scale=0.5)])
    )


def test_what_makes_rates_doubtful_is_stated() -> None:
    """The sentences name the methods whose training the time limit ended, and the warnings about the given model."""
    warned = (WARNING.model_copy(update={"code": "zero-gradient"}),)
    cut = SAMPLE.epochs[-1].model_copy(update={"fraction": 0.5})
    reports = [
        report_on(0, before=SAMPLE.before.model_copy(update={"warnings": warned})),
        report_on(1, epochs=(*SAMPLE.epochs[:-1], cut)),
        report_on(0, UniformMethod()),
    ]
    text = terminal.summary(tabulate_methods(reports))
    assert "the training of 1 of 3 fine-tunings, 1 by FAAL (at, DRO radius r = 0.2), early" in text
    assert "the given model may be far too high (zero-gradient)" in text
    text = terminal.summary(tabulate_methods(reports[2:]))
    assert "time limit" not in text
    assert "too high" not in text


def test_fine_tunings_with_other_terms_are_refused() -> None:
    """Other weights, images, radius, attacks or confidence, a repeated seed, and an empty list are refused by name."""
    spec, before = SAMPLE.spec, SAMPLE.before
    audit = spec.audit.model_copy

    def change_before(part: str) -> dict:
        changed = getattr(before, part).model_copy(update={"sha256": "00" * 32})
        return {"before": before.model_copy(update={part: changed})}

    def change_spec(**fields) -> dict:
        return {"spec": report_on(1).spec.model_copy(update=fields)}

    training = SAMPLE.training_dataset.model_copy(update={"sha256": "00" * 32})
    for changes, words in (
        (change_before("classifier"), "different given weights"),
        (change_before("dataset"), "different test images"),
        ({"training_dataset": training}, "different training images"),
        (change_spec(threat=ThreatModel(epsilon=0.2)), "different radii, L∞ ε = 0.1 and L∞ ε = 51/255"),
        (change_spec(audit=audit(update={"attacks": spec.audit.attacks[:1]})), "different attacks"),
        (change_spec(audit=audit(update={"confidence": 0.99})), "different confidence levels, 0.95 and 0.99"),
        ({"spec": report_on(0).spec}, "have the seed 0"),
    ):
        with pytest.raises(InvalidSpec, match=words):
            tabulate_methods([report_on(0), report_on(1, **changes)])
    with pytest.raises(InvalidSpec, match="at least one"):
        tabulate_methods([])


def test_other_training_settings_are_stated() -> None:
    """Methods that were trained in different ways are listed, and the table names the settings."""
    spec = report_on(1, UniformMethod()).spec
    longer = spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rates": (0.01, 0.001)})})
    table = tabulate_methods([report_on(0), report_on(1, spec=longer)])
    assert table.differences == ("The fine-tunings have different training settings: training.learning_rates.",)
