"""Read the documents of fine-tunings that older versions wrote, whose fields had other names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Names = Mapping[str, str]

SPEC: Names = MappingProxyType({"held_out_share": "validation_fraction"})
AVERAGING: Names = MappingProxyType({"least_worst": "min_robust_worst"})
EPOCH: Names = MappingProxyType(
    {
        "share": "fraction",
        "held_out_clean": "validation_clean",
        "held_out_mean": "validation_robust",
        "held_out_worst": "validation_robust_worst",
    }
)
CANDIDATE: Names = MappingProxyType(
    {"share": "interpolation", "offsets": "offset_scale", "mean": "robust", "worst": "robust_worst"}
)
REPORT: Names = MappingProxyType(
    {
        "held_out_images": "validation_images",
        "selected_share": "selected_interpolation",
        "selected_offsets": "selected_offset_scale",
        "whole_class_offsets": "unscaled_class_offsets",
    }
)
"""The names that version 1 had, each with the name of version 2."""


def rename(fields: object, names: Names) -> Any:  # noqa: ANN401 - JSON
    """Return the fields in their order, with new names where `names` has one; a value that has no fields is returned as it is."""
    if not isinstance(fields, Mapping):
        return fields
    return {names.get(name, name): value for name, value in fields.items()}


def upgrade_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a FinetuneSpec with today's names; a spec of today is returned as it is."""
    changed = _rename_spec(spec, SPEC, AVERAGING)
    training = changed.get("training")
    if isinstance(training, dict) and "mean_may_fall" in training:  # the only bound that there was
        bound = training.pop("mean_may_fall")
        changed["training"] = {"max_robust_drop": bound, "max_clean_drop": None, **training}
    return changed


def upgrade_report(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a FinetuneReport of version 1 as those of version 2; others are returned as they are.

    What is missing or malformed stays so: the validation of the report names it.
    """
    if document.get("version") != 1:
        return dict(document)
    changed = _rename_report(document, REPORT, EPOCH, CANDIDATE)
    if isinstance(changed.get("spec"), Mapping):
        changed["spec"] = upgrade_spec(changed["spec"])
    return {**changed, "version": 2}


def downgrade_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a FinetuneSpec with the names of version 1."""
    return _rename_spec(spec, _reverse(SPEC), _reverse(AVERAGING))


def downgrade_report(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a FinetuneReport of version 2 as those of version 1."""
    changed = _rename_report(document, _reverse(REPORT), _reverse(EPOCH), _reverse(CANDIDATE))
    if isinstance(changed.get("spec"), Mapping):
        changed["spec"] = downgrade_spec(changed["spec"])
    return {**changed, "version": 1}


def _rename_spec(spec: Mapping[str, Any], training: Names, averaging: Names) -> dict[str, Any]:
    changed = dict(spec)
    if isinstance(spec.get("training"), Mapping):
        changed["training"] = rename(spec["training"], training)
        if "averaging" in changed["training"]:
            changed["training"]["averaging"] = rename(changed["training"]["averaging"], averaging)
    return changed


def _rename_report(document: Mapping[str, Any], report: Names, epoch: Names, candidate: Names) -> dict[str, Any]:
    changed: dict[str, Any] = rename(document, report)
    for key, names in (("epochs", epoch), ("candidates", candidate)):
        if isinstance(document.get(key), list | tuple):
            changed[key] = [rename(row, names) for row in document[key]]
    return changed


def _reverse(names: Names) -> Names:
    return {new: old for old, new in names.items()}
