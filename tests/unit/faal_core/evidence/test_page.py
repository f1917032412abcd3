"""The page of a pack answers a board's questions, claims nothing, and shows no markup of strangers."""

import math
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from faal_core.evidence import page, page_facts, verify_pack, write_pack
from faal_core.evidence.archive import Member
from faal_core.evidence.contents import Contents
from tests.evidence_packs import make_signer, read_members, read_statement, write_sample
from tests.sample_reports import WARNING

ZERO = WARNING.model_copy(update={"code": "zero-gradient"})
SECTIONS = Path(page.__file__).with_name("sections.toml")


def _write_page(folder: Path, policy: str | None = "min_robust: 0.5", **options: object) -> str:
    """Write a pack with that policy, and return its page."""
    files = {}
    if policy is not None:
        (folder / "policy.yaml").write_text(f"{policy} # <script>alert(1)</script>\n")
        files["policy"] = folder / "policy.yaml"
    write_pack(folder / "pack.zip", folder / "out", **files, **options)
    return read_members(folder / "pack.zip")["evidence.html"].decode()


class _Headings(HTMLParser):
    """Collects the second-level headings and all tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag."""
        self.tags.add(tag)
        if tag == "h2":
            self.headings.append("")

    def handle_data(self, data: str) -> None:
        """Add text to the last heading."""
        if self.headings and self.lasttag == "h2":
            self.headings[-1] += data.strip()


def test_the_page_answers_a_boards_questions(tmp_path: Path) -> None:
    """The page says what was tested, how strongly, what was found, what was not tested, and who signed."""
    report, _ = write_sample(tmp_path / "out")
    text = _write_page(tmp_path, signer=make_signer(tmp_path, "Bob, laboratory"))
    parser = _Headings()
    parser.feed(text)
    expected = ["Verdict", "What was tested, and how strongly?", "What was found?", "What was not tested?"]
    assert parser.headings[: len(expected)] == expected
    assert "Who signed?" in parser.headings
    for fact in (
        "Passed: the requirement of the policy is met",
        "L∞ ε = 0.1",
        "PGD-20 (cross-entropy)",
        "100 images, 10 of each class",
        "L2 and other norms, and larger radii",
        "The policy fixes neither classifier, images, number of images, radius of the perturbations nor attacks",
        "The file policy.yaml does not say how undecided limits count. FAAL&#39;s default applies: as not passed.",
        "Bob, laboratory (name as stated by the signer) states: these files and this result.",
        "to be added by the laboratory: names and addresses.",
        "Do not write in this file: a change breaks the pack.",
        report.classifier.sha256,
    ):
        assert fact in text, fact
    assert "script" not in parser.tags
    assert "min_robust: 0.5 # &lt;script&gt;" in text


@pytest.mark.parametrize(
    ("attacks", "expected"),
    [
        ("pgd-20", ["a first look, weaker than the preset fast", "PGD-20 (margin): 20 steps, 1 run."]),
        ("pgd-100", ["a first look", "PGD-100×2 (margin): 100 steps, 2 runs with different starts."]),
        ("fast", ["are not the full ensemble", "APGD-30 (dlr, 3 targets): 30 steps towards each of 3 classes, 1 run."]),
        ("standard", ["are the full ensemble", "Square-5000: 5,000 random changes of an image, 1 run."]),
    ],
)
def test_a_box_says_how_strong_the_test_was(tmp_path: Path, attacks: str, expected: list[str]) -> None:
    """The box has the ensemble, each attack, the images of a class with the width of their interval, and the warnings."""
    report, _ = write_sample(tmp_path / "out", attacks=attacks)
    width = math.ceil(100 * max(row.robust.high - row.robust.low for row in report.classes))
    precision = f"10 images of each class: the interval of a class&#39;s robust accuracy is up to {width} points wide."
    for warnings, sentence in (
        ((), "No warning was recorded that the rates are far too high."),
        ((WARNING,), f"far too high. Other warnings were recorded: {WARNING.code}."),
        ((WARNING, ZERO), "warn that the rates may be far too high: zero-gradient."),
    ):
        (tmp_path / "out/report.json").write_text(report.model_copy(update={"warnings": warnings}).model_dump_json())
        box = _write_page(tmp_path, None).split("How strong was this test?")[1].split("</div>")[0]
        counts = [f"Tried on {row.tried:,} images, broke {row.broken:,}." for row in report.attacks]
        for words in (*expected, *counts, precision, sentence):
            assert words in box, words


def test_without_a_policy_there_is_no_verdict(tmp_path: Path) -> None:
    """A pack without the result of a gate gives no verdict, and its statement does not say that anything passed."""
    write_sample(tmp_path / "out")
    assert "No verdict: a policy with limits is not part of this pack" in _write_page(tmp_path, None)
    predicate = read_statement(tmp_path / "pack.zip")["predicate"]
    assert (predicate["result"], predicate["passedTests"], predicate["warnedTests"]) == ("WARNED", [], ["no-policy"])


@pytest.mark.parametrize(
    ("policy", "result", "words"),
    [
        ("min_robust: 0.5", "PASSED", "Passed: the requirement"),
        (
            "{min_robust: 0.77, undecided: pass}",
            "WARNED",
            "Passed with a reservation: 1 limit is undecided, and the policy counts undecided as passed.",
        ),
        ("min_robust: 0.77", "FAILED", "Not passed: 1 limit is undecided, and undecided counts as not passed."),
        ("{min_robust: 0.5, min_clean: 0.9999}", "FAILED", "Failed: 1 of 2 requirements"),
    ],
)
def test_the_result_of_the_gate_is_the_verdict(tmp_path: Path, policy: str, result: str, words: str) -> None:
    """Statement and page have the gate's result; an undecided one passes only where the policy lets it."""
    write_sample(tmp_path / "out", images=30)
    text = _write_page(tmp_path, policy)
    assert words in text
    assert f"statement records the result as {result}." in text
    assert read_statement(tmp_path / "pack.zip")["predicate"]["result"] == result
    assert verify_pack(tmp_path / "pack.zip").verified


def test_each_heading_has_a_fact_or_an_owner(tmp_path: Path) -> None:
    """Each heading of the data file names facts that the page knows, or says what its owner must add."""
    write_sample(tmp_path / "out")
    _write_page(tmp_path)
    members = read_members(tmp_path / "pack.zip")
    contents = Contents({name: Member.from_bytes(content) for name, content in members.items()})
    facts = page_facts.collect_facts(contents, "0" * 64, None, None)
    outlines = tomllib.loads(SECTIONS.read_text("utf-8"))["outlines"]
    used = {name for outline in outlines for section in outline["sections"] for name in section.get("facts", [])}
    assert used <= facts.keys()
    for outline in page.fill_outlines(facts):
        for section in outline.sections:
            assert section.facts or section.places or section.blank, section.heading
            assert bool(section.owner) == bool(section.blank), section.heading


def test_nothing_claims_compliance(tmp_path: Path) -> None:
    """No sentence of the data file says that a system complies, conforms or is certified."""
    text = SECTIONS.read_text("utf-8").lower()
    for claim in ("is compliant", "complies with", "conforms", "certified", "fulfils"):
        assert claim not in text
    assert "no claim" in text
    assert "no accredited report" in text


def test_the_interval_is_never_narrower_than_it_is(tmp_path: Path) -> None:
    """The bounds in the sentence are rounded outwards."""
    report, _ = write_sample(tmp_path / "out", attacks="fast")
    worst = report.robust.worst
    text = _write_page(tmp_path)
    low, high = map(float, re.findall(r"under these attacks is between ([\d.]+) % and ([\d.]+) %", text)[0])
    assert low <= 100 * worst.low < low + 0.1
    assert high - 0.1 < 100 * worst.high <= high


def test_a_stopped_audit_has_no_interval(tmp_path: Path) -> None:
    """Of an audit that was stopped, the page gives an upper limit alone, and says that it is as reported."""
    report, _ = write_sample(tmp_path / "out")
    row, *rows = report.attacks
    stopped = report.model_copy(update={"attacks": (row.model_copy(update={"untried": 5}), *rows)})
    (tmp_path / "out/report.json").write_text(stopped.model_dump_json())
    text = _write_page(tmp_path)
    worst = min(report.classes, key=lambda one: one.robust.rate)
    assert f"At most {worst.robust.count} of the {worst.images} images of the worst class, {worst.name}, resist" in text
    assert "under these attacks is between" not in text
    assert "points wide" not in text
    assert "As reported: PGD-20 (cross-entropy) did not reach 5 of" in text


def test_the_rest_of_a_long_policy_is_named(tmp_path: Path) -> None:
    """The page says how many bytes of the policy it does not show."""
    write_sample(tmp_path / "out")
    assert "are not shown here" not in _write_page(tmp_path)
    text = _write_page(tmp_path, f"# {'x' * 5000}\nmin_robust: 0.5")
    size = len(read_members(tmp_path / "pack.zip")["policy.yaml"])
    assert f"The last {size - 4096:,} bytes of the policy are not shown here. policy.yaml has all of it." in text
