"""Typeset the page of a pack as a PDF on A4, with the text of the page in HTML.

The PDF is for archives (PDF/A-2a) and for screen readers (PDF/UA-1).
"""

import json
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from faal_core.errors import InvalidSpec
from faal_core.evidence.page_tree import read_tree
from faal_core.results.reading import REPORT

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_BYTES = 2**20  # of the tree; typst needs 5 s and 2 GB of memory for as many


def find_version() -> str | None:
    """Return the version of typst, the package that typesets; None where it is not installed."""
    try:
        return metadata.version("typst")
    except metadata.PackageNotFoundError:
        return None


def require_typst() -> None:
    """Check that typst is installed. Raises: InvalidSpec."""
    if find_version() is None:
        raise InvalidSpec("A PDF needs typst, which is not installed. Run pip install 'faal[pdf]'.")


def typeset(page: bytes, report_sha256: str, created_at: datetime) -> bytes:
    """Return the PDF of the page. The same page, with the same version of typst, always gives the same PDF.

    Nothing is downloaded, and only files of the package are read: fonts and layout. The page's texts are data for the layout.

    Args:
        page: HTML that `page.render_page` wrote.
        report_sha256: SHA-256 of the report's file, for the head of each sheet.
        created_at: time of the report, which the PDF states as its own.
    Raises: InvalidSpec if typst is missing or cannot typeset the page.
    """
    require_typst()
    import typst

    time = created_at.astimezone(UTC).replace(microsecond=0)
    tree = read_tree(page) | {
        "date": time.timetuple()[:6],
        "report": {"name": REPORT, "sha256": report_sha256},
    }
    data = json.dumps(tree)
    if len(data) > _MOST_BYTES:
        raise InvalidSpec(f"The page is too long for a PDF: {len(data):,} bytes of {_MOST_BYTES:,}. Leave the PDF out.")
    try:
        document: bytes = typst.compile(
            _TEMPLATES / "evidence.typ",
            root=_TEMPLATES,
            ignore_system_fonts=True,
            sys_inputs={"page": data},
            pdf_standards=["a-2a", "ua-1"],
            timestamp=time,
        )
    except typst.TypstError as error:
        raise InvalidSpec(f"The page cannot be typeset as a PDF: {str(error)[:200]}.") from None
    return document
