"""Reports that are read back from their JSON."""

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
