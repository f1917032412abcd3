"""Make the built pages fit the service's content security policy: nothing inline, and nothing from other hosts."""

import re
from hashlib import sha256
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_STYLE = re.compile(r' style="([^"]*)"')
_FORBIDDEN = re.compile(
    r'<script(?! [^>]*src)|<style| on\w+="|<(?:script|link|img|iframe)[^>]* (?:src|href)="(?:https?:)?//'
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite the pages when all are written."""
    app.connect("build-finished", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app: Sphinx, error: Exception | None) -> None:
    """Move inline scripts and styles of every page into files. Raises: ExtensionError where a page then breaks the policy."""
    if error is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    for page in folder.rglob("*.html"):
        static = "../" * (len(page.relative_to(folder).parts) - 1) + "_static"
        text = page.read_text("utf-8")
        text = _INLINE.sub(lambda match, to=static: _tag(folder, to, match[1], match[2]), text)
        text = _STYLE.sub(lambda match: _attribute(folder, match[1]), text)
        page.write_text(text, "utf-8")
        if fault := _FORBIDDEN.search(text):
            raise ExtensionError(f"{page}: the service forbids {fault[0]!r}")


def _tag(folder: Path, static: str, kind: str, content: str) -> str:
    """Return the tag that loads the content from a file."""
    name = f"inline-{sha256(content.encode()).hexdigest()[:12]}.{'js' if kind == 'script' else 'css'}"
    (folder / "_static" / name).write_text(content, "utf-8")
    if kind == "script":
        return f'<script src="{static}/{name}"></script>'
    return f'<link rel="stylesheet" href="{static}/{name}">'


def _attribute(folder: Path, style: str) -> str:
    """Return an attribute in place of `style="…"`, with a rule for it in guide.css."""
    name = f"inline-{sha256(style.encode()).hexdigest()[:12]}"
    rules = folder / "_static/guide.css"
    rule = f'[data-style="{name}"] {{ {style} }}\n'
    if rule not in rules.read_text("utf-8"):
        rules.write_text(rules.read_text("utf-8") + rule, "utf-8")
    return f' data-style="{name}"'
