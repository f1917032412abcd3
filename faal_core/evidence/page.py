"""Render the page of a pack that a board reads: verdict, scope, findings, limits, signatures, and headings of regulations."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from faal_core.evidence.contents import Contents
from faal_core.evidence.keys import PublicKey
from faal_core.evidence.page_facts import Facts, collect_facts, judge
from faal_core.reports import audit_text, html, text, wording
from faal_core.reports.gate_formats import words
from faal_core.results.reading import REPORT

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_POLICY_BYTES = 4096  # of a policy that the page shows


@dataclass(frozen=True)
class Section:
    """Fills one heading of a regulation or standard.

    Args:
        facts: sentences from the pack.
        blank: what its owner must add; empty where the pack fills the heading.
    """

    clause: str
    heading: str
    facts: tuple[str, ...]
    blank: str


@dataclass(frozen=True)
class Outline:
    """Lists the headings of one regulation or standard."""

    title: str
    note: str
    sections: tuple[Section, ...]


def render_page(contents: Contents, digests: dict[str, str], key: PublicKey | None, signer: str | None) -> bytes:
    """Return the page. The same files always give the same page.

    Args:
        digests: SHA-256 of each file but the page and the statement.
        key, signer: key of the pack's signature, and the signer's name as stated.
    """
    facts = collect_facts(contents, digests[REPORT], key, signer)
    audit = contents.audited
    order = wording.worst_first(audit.classes)
    page = html.load_templates(_TEMPLATES).get_template("evidence.html")
    document: str = page.render(
        report=audit,
        product=contents.report.product,
        verdict=judge(contents),
        requirements=[(words.plain_title(one), one) for one in contents.gate.requirements] if contents.gate else [],
        policy=_read_policy(contents),
        policy_name=contents.policy_name,
        policy_rest=_count_policy_rest(contents),
        facts=facts,
        warnings=text.warnings(contents.report),
        rows=[audit.classes[c] for c in order[: html.LISTED_CLASSES]],
        after_attacks=audit_text.after_attacks(audit),
        approval=contents.approval,
        key=key,
        signer=signer,
        outlines=fill_outlines(facts),
        digests=sorted(digests.items()),
        report_file=REPORT,
    )
    return document.encode()


def _read_policy(contents: Contents) -> str | None:
    """Return the beginning of the policy's text, or None without a policy."""
    if contents.policy_name is None:
        return None
    text_lines = contents.read(contents.policy_name)[:_MOST_POLICY_BYTES].decode("utf-8", "replace").splitlines()
    return "\n".join(map(wording.sanitise, text_lines))


def _count_policy_rest(contents: Contents) -> int:
    """Return the number of bytes of the policy that the page does not show."""
    name = contents.policy_name
    return 0 if name is None else max(0, contents.members[name].size - _MOST_POLICY_BYTES)


def fill_outlines(facts: Facts) -> list[Outline]:
    """Return the headings of `sections.toml` with the facts that fill them.

    A heading without a fact, and one that needs more than the facts, says what its owner must add.
    """
    return [
        Outline(
            one["title"],
            one["note"],
            tuple(
                Section(
                    section["clause"],
                    section["heading"],
                    tuple(sentence for name in section.get("facts", []) for sentence in facts[name]),
                    section.get("blank", ""),
                )
                for section in one["sections"]
            ),
        )
        for one in _read_outlines()
    ]


@cache
def _read_outlines() -> list[dict[str, Any]]:
    outlines: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "sections.toml").read_text("utf-8"))[
        "outlines"
    ]
    return outlines
