"""Show the result of a gate as JUnit XML: one test case for each requirement, whose name stays when its limit changes.

A requirement that is not met is a failure. An undecided one is an error where it fails the gate, and a skipped test elsewhere.
"""

from xml.etree import ElementTree as ET

from faal_core.reports.gate_formats import words
from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import GateResult, RequirementResult


def render(result: GateResult) -> str:
    """Return the document, in the form that Jenkins, GitLab and others read."""
    tags = [_tag(one, result) for one in result.requirements]
    counts = {"tests": len(tags), "failures": tags.count("failure"), "errors": tags.count("error")}
    numbers = {name: str(count) for name, count in counts.items()}
    suites = ET.Element("testsuites", {"name": "faal gate", **numbers})
    suite = ET.SubElement(suites, "testsuite", {**suites.attrib, "skipped": str(tags.count("skipped"))})
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="audit", value=words.describe(result.audit))
    for one, tag in zip(result.requirements, tags, strict=True):
        case = ET.SubElement(suite, "testcase", classname="faal.gate", name=words.title(one))
        sentence = sanitise(f"{words.limit(one)}. {one.sentence}")
        if tag:
            ET.SubElement(case, tag, type=one.status, message=sentence)
        else:
            ET.SubElement(case, "system-out").text = sentence
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _tag(requirement: RequirementResult, result: GateResult) -> str | None:
    if requirement.status == "undecided":
        return "error" if result.policy.undecided == "fail" else "skipped"
    return "failure" if requirement.status == "fail" else None
