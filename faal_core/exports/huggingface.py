"""Export a report as a model card of Hugging Face: results as metadata in `model-index`, and a section of text.

The card is a file, and this module uploads nothing.
"""

from pathlib import Path
from typing import Any

from faal_core.errors import InvalidSpec
from faal_core.exports.card_text import describe_series
from faal_core.exports.markdown import escape
from faal_core.exports.packages import import_package
from faal_core.exports.stored_report import Source, read_series
from faal_core.reports.audit_text import caveat, name_attacks
from faal_core.reports.wording import sanitise
from faal_core.results.documents import AuditReport, Interval, Rate
from faal_core.results.reading import newest_audit

EXTRA = "huggingface"
TASK = "image-classification"
TAG = "adversarial-robustness"
BEGIN, END = "<!-- faal: begin -->", "<!-- faal: end -->"
"""Surround the section of FAAL, which the next export replaces."""


def write_model_card(*reports: Source, path: str | Path, dataset_id: str | None = None) -> None:
    """Write the results of a report into a model card, which is created if needed.

    The metadata get clean accuracy, robust accuracy and the worst class of each report, with the radius in every name. Other
    metadata and text of an existing card stay; results of the same name and the section of an earlier export are replaced. The
    card of a fine-tuning has the results of the audit after the training.

    Args:
        reports: reports, or paths of `report.json` files; several must be audits that differ in the radius alone.
        path: the card, `README.md` in a repository of a model.
        dataset_id: id of the data set on Hugging Face, such as `uoft-cs/cifar10`; its name in the report when absent.

    Raises:
        InvalidSpec: if the reports cannot be exported together, the existing card's metadata are invalid, or huggingface_hub is
            not installed.
        OSError: if a file cannot be read or written.
    """
    series = [one.report for one in read_series(reports)]
    hub = import_package("huggingface_hub", EXTRA)
    path = Path(path)
    audit = newest_audit(series[-1])
    card = (
        _read_card(hub, path)
        if path.exists()
        else hub.ModelCard(f"---\n{{}}\n---\n\n# {escape(audit.classifier.name)}\n")
    )
    results = {
        result.metric_name: result for one in series for result in _list_results(hub, newest_audit(one), dataset_id)
    }
    data = card.data
    earlier = [
        own
        for own in data.eval_results or ()
        if own.metric_name not in results or own.unique_identifier != results[own.metric_name].unique_identifier
    ]
    data.model_name = data.get("model_name") or sanitise(audit.classifier.name)
    data.eval_results = [*earlier, *results.values()]
    data.pipeline_tag = data.pipeline_tag or TASK
    data.tags = list(dict.fromkeys([*(data.tags or ()), TAG]))
    card.text = _replace_section(card.text, describe_series(series))
    card.save(path)


def _read_card(hub: Any, path: Path) -> Any:  # noqa: ANN401 - of huggingface_hub
    """Return the card in a file. Raises: InvalidSpec if its metadata are invalid."""
    yaml = import_package("yaml", EXTRA)
    try:
        return hub.ModelCard.load(path)
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidSpec(
            f"{path} is no valid model card. Correct its metadata, or name another file. ({error})"
        ) from None


def _list_results(hub: Any, audit: AuditReport, dataset_id: str | None) -> list[Any]:  # noqa: ANN401 - of huggingface_hub
    """Return clean and robust accuracy, of all images and of the worst class, as results of the card's metadata."""
    threat, attacks = audit.spec.threat, name_attacks(audit)
    robust = ", ".join(filter(None, [str(threat), attacks.removeprefix("the "), caveat(audit)]))
    arguments: dict[str, dict[str, object]] = {
        "clean": {"epsilon": 0},
        "robust": {
            "norm": threat.norm.value,
            "epsilon": threat.epsilon,
            "attacks": [sanitise(attack.name) for attack in audit.attacks],
        },
    }

    def build(name: str, kind: str, estimate: Rate | Interval, **more: str) -> Any:  # noqa: ANN401 - of huggingface_hub
        return hub.EvalResult(
            task_type=TASK,
            dataset_type=dataset_id or sanitise(audit.dataset.name),
            dataset_name=sanitise(audit.dataset.name),
            dataset_split=audit.dataset.part,
            dataset_args={"images": audit.dataset.images, "sha256": audit.dataset.sha256},
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(estimate.rate if isinstance(estimate, Rate) else estimate.value, 6),
            metric_args={
                **arguments[kind],
                "low": round(estimate.low, 6),
                "high": round(estimate.high, 6),
                "confidence": audit.spec.confidence,
                **more,
            },
        )

    return [
        build("Clean accuracy (ε = 0)", "clean", audit.clean.mean),
        build(
            "Clean accuracy of the worst class (ε = 0)",
            "clean",
            audit.clean.worst,
            worst_class=sanitise(audit.clean.worst_class),
        ),
        build(f"Robust accuracy ({robust})", "robust", audit.robust.mean),
        build(
            f"Robust accuracy of the worst class ({robust})",
            "robust",
            audit.robust.worst,
            worst_class=sanitise(audit.robust.worst_class),
        ),
    ]


def _replace_section(text: str, section: str) -> str:
    """Return the card's text with the section in the place of an earlier one, or at its end."""
    surrounded = f"{BEGIN}\n{section}{END}"
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if begin and end:
        return f"{head}{surrounded}{tail}"
    return f"{text.rstrip()}\n\n{surrounded}\n"
