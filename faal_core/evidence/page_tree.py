"""Read the page of a pack as a tree of elements and text, for layouts other than a browser's."""

import re
import unicodedata
from html.parser import HTMLParser
from typing import Any

Node = dict[str, Any] | str
_VOID = frozenset({"br", "meta"})
_INLINE = frozenset({"br", "code", "em", "small", "span", "strong"})
_WIDEST = 40  # characters: longer texts do not make their column wider
MOST_CHARACTERS = 2000  # of one text outside of `pre`, which the page cuts itself
# Signs that typst's own fonts have, in every weight: Latin, Greek and Cyrillic letters, punctuation, arrows, mathematics, shapes.
_UNKNOWN = re.compile("[^\n -~¡-¬®-ɏΑ-ΡΣ-ώЀ-џḀ-ỿ‐-‧‰-‾⁰ⁱ⁴-₎₠-₿←-⇿∀-⋿■-◿\ufffd]")


def read_tree(page: bytes) -> dict[str, Any]:
    """Return the page's `title`, the `colours` of its style by name, and the tree of its `body`.

    An element is a dictionary with its `tag`, its `classes`, its `span` of columns and its `body`. A table also has `columns`:
    whether each has numbers, and the number of characters of its longest text. Elements of the class `html-only` are left out.

    Args:
        page: HTML that `page.render_page` wrote; its elements are closed, and its texts are escaped.
    """
    reader = _Reader()
    reader.feed(page.decode())
    reader.close()
    (main,) = reader.root["body"]
    return {
        "title": _write_signs(_cut(" ".join(reader.texts["title"].split()))),
        "colours": dict(
            re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", reader.texts["style"])
        ),  # the last ones are for print
        "body": main["body"],
    }


def _cut(text: str) -> str:
    """Return the beginning of a long text, with the number of characters that are left out."""
    rest = len(text) - MOST_CHARACTERS
    return text if rest <= 0 else f"{text[:MOST_CHARACTERS]}… [{rest:,} more characters: see the page in HTML]"


def _write_signs(text: str) -> str:
    """Return the text with the code of each sign that the fonts of a PDF lack: "[U+732B]"."""
    return _UNKNOWN.sub(lambda sign: f"[U+{ord(sign[0]):04X}]", unicodedata.normalize("NFC", text))


class _Reader(HTMLParser):
    """Builds the tree of the page's `main` element, and collects the texts before it."""

    def __init__(self) -> None:
        super().__init__()
        self.root: dict[str, Any] = {"tag": "", "body": []}
        self.texts: dict[str, str] = {}
        self._open: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element within `main`."""
        if not self._open and tag != "main":
            return
        attributes = dict(attrs)
        element = {
            "tag": tag,
            "classes": (attributes.get("class") or "").split(),
            "span": int(attributes.get("colspan") or 1),
            "body": [],
        }
        (self._open[-1] if self._open else self.root)["body"].append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        """Close an element within `main`."""
        if not self._open:
            return
        element = self._open.pop()
        if tag != element["tag"]:
            raise AssertionError(f"the page closes {tag} within {element['tag']}")
        element["body"] = _join(element)
        if tag == "table":
            element["columns"] = _measure_columns(element)

    def handle_data(self, data: str) -> None:
        """Add text to the open element, or to the texts before `main`."""
        if self._open:
            self._open[-1]["body"].append(data)
        elif self.lasttag in ("title", "style") and self.lasttag not in self.texts:
            self.texts[self.lasttag] = data


def _join(element: dict[str, Any]) -> list[Node]:
    """Return the children of an element as a browser shows them: without white space that only separates elements."""
    if element["tag"] == "pre":
        return [_write_signs("".join(element["body"]))]
    nodes: list[Node] = [
        node for node in element["body"] if isinstance(node, str) or "html-only" not in node["classes"]
    ]
    shown: list[Node] = []
    for place, node in enumerate(nodes):
        if not isinstance(node, str):
            shown.append(node)
            continue
        text = re.sub(r"\s+", " ", node)
        if place == 0 or _breaks_line(nodes[place - 1], element):
            text = text.lstrip()
        if place == len(nodes) - 1 or _breaks_line(nodes[place + 1], element):
            text = text.rstrip()
        if text:
            shown.append(_write_signs(_cut(text)))
    return shown


def _breaks_line(node: Node, parent: dict[str, Any]) -> bool:
    """Return whether white space beside the node shows nothing."""
    return not isinstance(node, str) and (node["tag"] == "br" or node["tag"] not in _INLINE)


def _measure_columns(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kind and the widest text of each column."""
    rows = [row["body"] for part in table["body"] for row in part["body"]]
    columns = [{"number": "number" in cell["classes"], "width": 0} for cell in rows[0]]
    for row in rows:
        if len(row) == len(columns):
            for column, cell in zip(columns, row, strict=True):
                column["width"] = max(column["width"], min(_count_characters(cell), _WIDEST))
    return columns


def _count_characters(node: Node) -> int:
    return len(node) if isinstance(node, str) else sum(map(_count_characters, node["body"]))
