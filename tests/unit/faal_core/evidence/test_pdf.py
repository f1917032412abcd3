"""The PDF of a pack: the text of the page in HTML, in a form for archives, the same bytes each time."""

import json
import re
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from faal_core.errors import InvalidSpec
from faal_core.evidence import page, page_tree, pdf, strict_json, verify_pack, write_pack
from faal_core.evidence.archive import Member
from faal_core.evidence.checks import measure_digests
from faal_core.evidence.contents import Contents
from faal_core.evidence.keys import Signer
from faal_core.results.documents import AuditReport
from tests.evidence_packs import STATEMENT, forge, make_signer, read_members, write_sample

HOSTILE = ('#read("/etc/passwd")', "*a* _b_ $x$ `c` <b>d</b> @ref = e", "W" * 100, "猫", "x" * 10_000)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """Return the signer of the packs."""
    return make_signer(tmp_path_factory.mktemp("key"), "Bob, laboratory")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Write a signed pack with a policy and a PDF."""
    folder = tmp_path_factory.mktemp("pack")
    write_sample(folder / "out")
    (folder / "policy.yaml").write_text("min_robust: 0.5\n")
    write_pack(folder / "pack.zip", folder / "out", policy=folder / "policy.yaml", signer=signer, with_pdf=True)
    return folder / "pack.zip"


class _Text(HTMLParser):
    """Collects the texts of the page's `main` element, but the part that is for browsers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._is_shown = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin with `main`."""
        self._is_shown = (self._is_shown or tag == "main") and ("class", "html-only") not in attrs

    def handle_data(self, data: str) -> None:
        """Add a text."""
        if self._is_shown and data.strip():
            self.texts.append(data)


def _squeeze(text: str) -> str:
    return re.sub(r"\s", "", text)


def _read_text(content: bytes) -> str:
    """Return the text of a PDF without white space, heads and feet."""
    pages = [_squeeze(one.extract_text()) for one in PdfReader(BytesIO(content)).pages]
    plain = "".join(text.removesuffix(f"{number}of{len(pages)}") for number, text in enumerate(pages, start=1))
    return re.sub(r"Evidenceofaper-classrobustnessauditSHA-256ofreport\.json:[0-9a-f]{64}", "", plain)


def _list_tags(element: Any) -> set[str]:
    """Return the tags of the elements within an element of a PDF."""
    if not isinstance(element, dict):
        return set()
    inner = element.get("/K", [])
    children = inner if isinstance(inner, list) else [inner]
    return {element.get("/S", "")}.union(
        *(_list_tags(child.get_object()) for child in children if hasattr(child, "get_object"))
    )


def test_the_pdf_has_the_text_of_the_page(pack: Path) -> None:
    """Each text of the page is in the PDF: verdict, signer, and the numbers of each class; the pack is verified with it."""
    members = read_members(pack)
    shown, parser = _read_text(members["evidence.pdf"]), _Text()
    parser.feed(members["evidence.html"].decode())
    assert len(parser.texts) > 200
    for text in parser.texts:
        assert _squeeze(text) in shown, text
    assert "Passed:therequirementofthepolicyismet." in shown
    assert "Bob,laboratory" in shown
    result = {check.name: check.status for check in verify_pack(pack).checks}
    assert (result["page"], result["pdf"]) == ("passed", "passed")


def test_the_pdf_is_for_archives_and_screen_readers(pack: Path) -> None:
    """The file states PDF/A-2a, PDF/UA-1, title, language and the report's time; headings and heads of tables have tags."""
    content = read_members(pack)["evidence.pdf"]
    reader = PdfReader(BytesIO(content))
    metadata = reader.trailer["/Root"]["/Metadata"].get_data().decode()
    for name, value in {"pdfaid:part": "2", "pdfaid:conformance": "A", "pdfuaid:part": "1"}.items():
        assert f"<{name}>{value}</{name}>" in metadata
    assert reader.trailer["/Root"]["/Lang"] == "en"
    assert reader.metadata.title == "Evidence of a robustness audit of fashion-resnet"
    created_at = AuditReport.model_validate_json(read_members(pack)["report.json"]).created_at
    assert reader.metadata.creation_date == created_at.replace(microsecond=0)
    assert {"/H1", "/H2", "/H3", "/L", "/LI", "/Table", "/TH", "/TD"} <= _list_tags(
        reader.trailer["/Root"]["/StructTreeRoot"]
    )


def test_the_same_page_gives_the_same_bytes(pack: Path, signer: Signer, tmp_path: Path) -> None:
    """Two packs with a PDF of the same files are equal, byte by byte."""
    write_sample(tmp_path / "out")
    (tmp_path / "policy.yaml").write_text("min_robust: 0.5\n")
    write_pack(tmp_path / "again.zip", tmp_path / "out", policy=tmp_path / "policy.yaml", signer=signer, with_pdf=True)
    assert (tmp_path / "again.zip").read_bytes() == pack.read_bytes()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Names with Typst's markup appear as they are, signs without a glyph as their code, and very long ones are cut."""
    report, _ = write_sample(tmp_path / "out")
    rows = tuple(
        row.model_copy(update={"name": name}) for row, name in zip(report.classes, (*HOSTILE, *"vwxyz"), strict=True)
    )
    report = report.model_copy(update={"classes": rows, "attacks": report.attacks * 7})
    contents = Contents({"report.json": Member.from_bytes(report.model_dump_json().encode())})
    html = page.render_page(contents, measure_digests(contents), None, '#panic("signer")')
    text = _read_text(pdf.typeset(html, "0" * 64, report.created_at))
    for name in (
        *HOSTILE[:3],
        "[U+732B]",
        f"{'x' * page_tree.MOST_CHARACTERS}… [8,000 more characters: see the page in HTML]",
    ):
        assert _squeeze(name) in text, name[:50]
    assert "root:" not in text


def test_a_very_long_page_is_refused(pack: Path) -> None:
    """A page of more text than typst can typeset in seconds is no PDF."""
    html = read_members(pack)["evidence.html"].replace(b"</main>", b"<p>text</p>" * 50_000 + b"</main>")
    with pytest.raises(InvalidSpec, match="too long for a PDF"):
        pdf.typeset(html, "0" * 64, datetime(2026, 11, 29, tzinfo=UTC))


def test_each_sign_that_is_written_has_a_glyph(pack: Path) -> None:
    """The fonts have every sign that is not written as its code, in every style; PDF/A refuses a sign without a glyph."""
    signs = [sign for sign in map(chr, range(0x110000)) if sign.isprintable() and not page_tree._UNKNOWN.match(sign)]
    words = [escape("".join(signs[start : start + 15])) for start in range(0, len(signs), 15)]
    texts = [" ".join(words[start : start + 50]) for start in range(0, len(words), 50)]
    styles = ("span", "strong", "em", "code", "small")
    body = "".join(f"<p><{style}>{text}</{style}></p>" for text in texts for style in styles)
    html = re.sub("(?s)<main>.*</main>", lambda _: f"<main>{body}</main>", read_members(pack)["evidence.html"].decode())
    assert len(signs) > 1000
    assert pdf.typeset(html.encode(), "0" * 64, datetime(2026, 11, 29, tzinfo=UTC)).startswith(b"%PDF-1.7")


def test_another_pdf_is_refused(pack: Path, signer: Signer, tmp_path: Path) -> None:
    """A PDF that shows something else than the page is refused, though its signature is valid."""
    (tmp_path / "forged.zip").write_bytes(pack.read_bytes())
    html = read_members(pack)["evidence.html"].replace(b"Passed", b"Failed")
    forge(
        tmp_path / "forged.zip",
        {"evidence.pdf": pdf.typeset(html, "0" * 64, datetime(2026, 11, 29, tzinfo=UTC))},
        signer,
    )
    failed = [check.sentence for check in verify_pack(tmp_path / "forged.zip").checks if check.status == "failed"]
    assert failed == ["evidence.pdf is not the PDF of evidence.html."]


def test_without_typst(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without typst no PDF is written, and that of a pack is checked by its digest alone."""
    monkeypatch.setattr(pdf, "find_version", lambda: None)
    with pytest.raises(InvalidSpec, match=r"pip install 'faal\[pdf\]'"):
        write_pack(tmp_path / "pack.zip", pack.parent / "out", with_pdf=True)
    result = verify_pack(pack)
    (check,) = (check for check in result.checks if check.name == "pdf")
    assert result.verified
    assert check.status == "not-checked"
    assert "Rely on evidence.html" in check.sentence
    assert result.pdf_checked is False


def test_a_pdf_of_another_machine_is_named_in_the_last_line(pack: Path, signer: Signer, tmp_path: Path) -> None:
    """A signer who names another machine can hide another PDF: the result and the last line say that it was not checked."""
    from faal_core.cli.verify import _write_text

    forged = tmp_path / "forged.zip"
    forged.write_bytes(pack.read_bytes())
    environment = json.loads(read_members(pack)["environment.json"]) | {"machine": "another"}
    forge(forged, {"environment.json": strict_json.encode(environment)}, signer)
    members = {name: Member.from_bytes(one) for name, one in read_members(forged).items() if name != STATEMENT}
    contents = Contents(members)
    digests = {
        name: one for name, one in measure_digests(contents).items() if name not in ("evidence.html", "evidence.pdf")
    }
    html = page.render_page(contents, digests, signer.public_key, signer.name)
    forge(forged, {"evidence.html": html, "evidence.pdf": b"%PDF-1.7 another text"}, signer)
    result = verify_pack(forged, public_key=signer.public_key)
    assert (result.verified, result.pdf_checked) == (True, False)
    assert _write_text(forged, result).endswith("; its PDF was not checked: rely on evidence.html")
    assert verify_pack(pack).pdf_checked is True
    assert "PDF was not checked" not in _write_text(pack, verify_pack(pack))
