"""Render the page of a pack that a board reads: verdict, scope, findings, limits, signatures, and headings of regulations."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from faal_core.evidence.contents import Contents
from faal_core.evidence.keys import PublicKey
from faal_core.evidence.page_facts import Facts, collect_facts
from faal_core.evidence.page_files import PURPOSES
from faal_core.evidence.page_verdict import describe_intervals, judge
from faal_core.reports import audit_text, html, text, wording
from faal_core.reports.gate_formats import words
from faal_core.results.reading import REPORT

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_POLICY_BYTES = 4096  # of a policy that the page shows
_TESTED, _SIGNERS = "What was tested, and how strongly?", "Who signed?"
_PLACES = {
    "uncertainty": "Limits of the method",
    **dict.fromkeys(("verdict", "requirements", "rules"), "Verdict"),
    **dict.fromkeys(("strength", "classifier", "dataset", "approach", "sampling", "dates", "machine"), _TESTED),
    **dict.fromkeys(("findings", "groups", "changes"), "What was found?"),
    "warnings": "Read this first: signs that the numbers cannot be trusted",
    "not_tested": "What was not tested?",
    **dict.fromkeys(("policy", "signature"), _SIGNERS),
}
"""The heading of the page under which readers find a fact."""


@dataclass(frozen=True)
class Section:
    """Fills one heading of a regulation or standard.

    Args:
        facts: sentences from the pack that no other part of the page has.
        places: headings of the parts of the page that have the other sentences.
        blank: what its owner must add; empty where the pack fills the heading.
        owner: who must add it: the provider, the laboratory or the board.
    """

    clause: str
    heading: str
    facts: tuple[str, ...]
    places: tuple[str, ...]
    blank: str
    owner: str


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
    outlines = fill_outlines(facts)
    order = wording.worst_first(audit.classes)
    page = html.load_templates(_TEMPLATES).get_template("evidence.html")
    document: str = page.render(
        report=audit,
        product=contents.report.product,
        verdict=judge(contents, signed=key is not None),
        requirements=[(words.plain_title(one), one) for one in contents.gate.requirements] if contents.gate else [],
        intervals=describe_intervals(contents),
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
        outlines=outlines,
        tasks=_list_tasks(outlines),
        digests=[(name, PURPOSES.get(name, ""), digest) for name, digest in sorted(digests.items())],
        report_file=REPORT,
        tested_title=_TESTED,
        signers_title=_SIGNERS,
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
    """Return the headings of `sections.toml` with the facts that fill them, or the part of the page that has these facts.

    A heading without a fact, and one that needs more than the facts, says what its owner must add.
    """
    return [
        Outline(one["title"], one["note"], tuple(_fill(section, facts) for section in one["sections"]))
        for one in _read_outlines()
    ]


def _list_tasks(outlines: list[Outline]) -> dict[str, str]:
    """Return the clauses that each owner must complete."""
    clauses: dict[str, list[str]] = {}
    for section in (section for outline in outlines for section in outline.sections if section.blank):
        clauses.setdefault(section.owner, []).append(section.clause)
    return {owner: "; ".join(dict.fromkeys(ones)) for owner, ones in clauses.items()}


def _fill(section: dict[str, Any], facts: Facts) -> Section:
    names = [name for name in section.get("facts", []) if facts[name]]
    return Section(
        section["clause"],
        section["heading"],
        tuple(sentence for name in names if name not in _PLACES for sentence in facts[name]),
        tuple(dict.fromkeys(_PLACES[name] for name in names if name in _PLACES)),
        section.get("blank", ""),
        section.get("owner", ""),
    )


@cache
def _read_outlines() -> list[dict[str, Any]]:
    outlines: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "sections.toml").read_text("utf-8"))[
        "outlines"
    ]
    return outlines
