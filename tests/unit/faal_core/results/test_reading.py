"""Reports that are read back from their JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from faal_core.results.documents import AuditReport
from faal_core.results.reading import read_report
from faal_core.specs import ClassifierSpec
from tests.sample_reports import sample_audit


def test_a_report_is_read_where_its_network_is_unknown() -> None:
    """A report names the network of another site, which this catalog lacks."""
    report = sample_audit()
    spec = report.classifier.spec.model_copy(update={"architecture": "site/our_net", "arguments": {"width": 8}})
    named = report.model_copy(update={"classifier": report.classifier.model_copy(update={"spec": spec})})
    assert read_report(named.model_dump_json()) == named


def test_a_new_report_equals_the_one_that_is_read() -> None:
    """The network of a new report is described like that of a stored one, although it was audited by its spec."""
    report = sample_audit()
    spec = ClassifierSpec.model_validate(report.classifier.spec.model_dump())
    renewed = report.model_dump() | {"classifier": report.classifier.model_dump() | {"spec": spec}}
    assert AuditReport.model_validate(renewed) == read_report(report.model_dump_json())


@pytest.mark.parametrize(
    "edit",
    [
        lambda report: report.update(classes=[]),
        lambda report: report["groups"][0].update(groups=[]),
        lambda report: report["classes"][0].update(images=0),
        lambda report: report["classes"][0].update(images=20),
        lambda report: report["classes"][0]["robust"].update(count=-1),
        lambda report: report["classes"][0]["robust"].update(count=301),
        lambda report: report["groups"][0]["groups"][0]["clean"].update(count=10**6),
        lambda report: report["robust"]["mean"].update(count=10**400),
        lambda report: report["robust"]["mean"].update(images=2**53),
        lambda report: report["robust"]["mean"].update(images=0, count=0),
        lambda report: report["robust"]["mean"].update(rate=1.5),
        lambda report: report["robust"]["mean"].update(rate=float("nan")),
        lambda report: report["robust"]["mean"].update(low=float("nan")),
        lambda report: report["robust"]["mean"].update(high=float("inf")),
        lambda report: report["robust"]["mean"].update(low=-0.1),
    ],
)
def test_a_report_with_impossible_numbers_is_refused(edit: Callable[[dict[str, Any]], None]) -> None:
    """A report that was edited by hand is refused where its counts or rates cannot occur."""
    document = json.loads(sample_audit(groups=("day", "night")).model_dump_json())
    read_report(json.dumps(document))
    edit(document)
    with pytest.raises(ValidationError):
        read_report(json.dumps(document))
