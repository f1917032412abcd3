"""The names of metrics are legal and distinct in other tools, and the numbers are those of the report."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faal_core.exports.metric_keys import any_script_keys, ascii_keys
from faal_core.exports.metrics import audit_metrics, class_keys, epoch_metrics, finetune_metrics
from tests.hostile_names import HOSTILE_NAMES
from tests.sample_reports import sample_audit, sample_finetune

MAKERS = (any_script_keys, ascii_keys)
LEGAL = {any_script_keys: re.compile(r"\w{1,130}"), ascii_keys: re.compile(r"[0-9A-Za-z_]{1,130}")}


def fold(key: str) -> str:
    """Return the key as a database that ignores case and accents compares it."""
    folded = unicodedata.normalize("NFKD", key.casefold())
    return "".join(sign for sign in folded if not unicodedata.combining(sign))


@pytest.mark.parametrize("make_keys", MAKERS)
@given(names=st.lists(st.text(max_size=12) | st.sampled_from(HOSTILE_NAMES), unique=True, max_size=12))
def test_keys_are_legal_and_distinct(make_keys, names: list[str]):
    """Any names get keys of word characters that differ even where case and accents are ignored."""
    keys = make_keys(names)
    assert len({fold(key) for key in keys}) == len(names)
    assert all(LEGAL[make_keys].fullmatch(key) for key in keys)


@pytest.mark.parametrize(
    ("names", "any_script", "ascii_only"),
    [
        (["ankle boot", "T-shirt", "bag"], ["ankle_boot", "T_shirt", "bag"], ["ankle_boot", "T_shirt", "bag"]),
        (["cat/dog", "cat dog", "cat"], ["cat_dog_0", "cat_dog_1", "cat"], ["cat_dog_0", "cat_dog_1", "cat"]),
        (["Straße", "猫", "犬", "***"], ["Straße", "猫", "犬", "3"], ["Stra_e", "1", "2", "3"]),
        (["é", "e", "E"], ["é_0", "e_1", "E_2"], ["e_0", "e_1", "E_2"]),
        (["a", "A", "a_0", "a_0_0"], ["a_0_0_0", "A_1", "a_0", "a_0_0"], ["a_0_0_0", "A_1", "a_0", "a_0_0"]),
    ],
)
def test_keys_can_be_read(names: list[str], any_script: list[str], ascii_only: list[str]):
    """A key is the name's letters and digits; only keys that would be equal, or empty, get the class's number."""
    assert (any_script_keys(names), ascii_keys(names)) == (any_script, ascii_only)


def test_a_key_does_not_depend_on_the_classes_that_have_images():
    """Two audits on one data set have the same key for a class, even if a class has images in one of them alone."""
    report = sample_audit(names=("cat/dog", "cat dog", "bag"), robust=(0.5, 0.6, 0.7))
    fewer = report.model_copy(update={"classes": report.classes[1:]})
    assert class_keys(fewer, ascii_keys) == class_keys(report, ascii_keys)[1:] == ["cat_dog_1", "bag"]


@pytest.mark.parametrize("make_keys", MAKERS)
@pytest.mark.parametrize("sign", ["/", "_"])
def test_no_two_metrics_have_one_name(make_keys, sign: str):
    """Joined by slashes or underscores, metrics of a fine-tuning with hostile names of classes and groups stay distinct."""
    names = HOSTILE_NAMES
    rates = [0.5] * len(names)
    report = sample_finetune(names, rates, rates, groups=("low", "class mean", "class_mean", "猫", ""))
    metrics = finetune_metrics(report, make_keys)
    joined = {fold(sign.join(path)) for path in metrics}
    assert len(joined) == len(metrics) > 20 * len(names)


def test_the_numbers_are_those_of_the_report():
    """Means, worst classes, gaps, classes and groups have the report's rates and bounds."""
    report = sample_audit(groups=("day", "night"))
    metrics = audit_metrics(report, any_script_keys)
    assert metrics["epsilon",] == report.spec.threat.epsilon
    for kind in ("clean", "robust"):
        spread = getattr(report, kind)
        estimates = {
            ("mean",): (spread.mean.rate, spread.mean.low, spread.mean.high),
            ("worst",): (spread.worst.value, spread.worst.low, spread.worst.high),
            ("gap",): (spread.gap.value, spread.gap.low, spread.gap.high),
        }
        shirt = getattr(report.classes[6], kind)
        night = getattr(report.groups[0].groups[1], kind)
        estimates["class", "shirt"] = (shirt.rate, shirt.low, shirt.high)
        estimates["group", "camera_night"] = (night.rate, night.low, night.high)
        worst_group = getattr(report.groups[0], kind).worst
        estimates["worst_group", "camera"] = (worst_group.value, worst_group.low, worst_group.high)
        for path, estimate in estimates.items():
            assert tuple(metrics[name, *path] for name in (kind, f"{kind}_low", f"{kind}_high")) == estimate
    assert metrics["robust", "tail_20"] == report.robust.tail_20


def test_a_fine_tuning_has_the_numbers_after_it_and_the_changes():
    """The names of an audit have the numbers after; `before`, `change` and `p_adjusted` have the others."""
    report = sample_finetune()
    metrics = finetune_metrics(report, any_script_keys)
    assert metrics["robust", "worst"] == report.after.robust.worst.value
    assert metrics["before", "robust", "worst"] == report.before.robust.worst.value
    assert metrics["change", "robust", "worst"] == report.robust.worst_change.value
    assert metrics["change_low", "clean", "mean"] == report.clean.mean_change.low
    shirt = report.robust.classes[6]
    assert metrics["change", "robust", "class", "shirt"] == shirt.after - shirt.before
    assert metrics["p_adjusted", "robust", "class", "shirt"] == shirt.p_adjusted
    assert [(epoch, numbers["training", "loss"]) for epoch, numbers in epoch_metrics(report)] == [
        (row.epoch, row.loss) for row in report.epochs
    ]
    assert all(len(numbers) == 2 for _, numbers in epoch_metrics(sample_finetune(validated=False)))
