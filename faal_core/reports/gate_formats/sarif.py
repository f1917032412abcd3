"""Show the result of a gate as SARIF 2.1.0: a rule for each field of the policy, a result for each requirement that is not met.

An undecided requirement that fails the gate is a warning. Where the policy lets it pass, it has the kind "open" and no level.

Source: SARIF 2.1.0 (OASIS).
"""

import hashlib
import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from faal_core import __version__
from faal_core.reports.gate_formats import words
from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import GateResult, RequirementResult

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(result: GateResult, report: PurePath) -> str:
    """Return the document.

    Args:
        report: file of the report that was judged; only its name is written where it is not below the working folder.
    """
    rules = list(dict.fromkeys(words.field(one) for one in result.requirements))
    place = report.name if report.is_absolute() or ".." in report.parts else report.as_posix()
    location = {"physicalLocation": {"artifactLocation": {"uri": quote(place)}, "region": {"startLine": 1}}}
    run = {
        "tool": {"driver": {"name": "FAAL", "semanticVersion": __version__, "rules": [_rule(rule) for rule in rules]}},
        "automationDetails": {"id": "faal-gate/"},
        "results": [_result(one, rules.index(words.field(one)), result, location) for one in words.violations(result)],
        "properties": {"status": result.status, "passed": result.passed},
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(name: str) -> dict[str, Any]:
    text = words.HELP[name]
    return {
        "id": name,
        "shortDescription": {"text": text},
        "help": {"text": f"{text} The page “Gate a CI pipeline” of FAAL's guide explains gates."},
        "defaultConfiguration": {"level": "error"},
    }


def _result(requirement: RequirementResult, rule: int, result: GateResult, location: dict[str, Any]) -> dict[str, Any]:
    is_open = requirement.status == "undecided" and result.policy.undecided == "pass"
    level = "none" if is_open else "error" if requirement.status == "fail" else "warning"
    identity = f"{requirement.name}\n{requirement.subject}".encode(errors="replace")
    return {
        "ruleId": words.field(requirement),
        "ruleIndex": rule,
        "kind": "open" if is_open else "fail",
        "level": level,
        "message": {"text": _message(f"{words.title(requirement)}: {requirement.sentence}")},
        "locations": [location],
        "partialFingerprints": {"requirement/v1": hashlib.sha256(identity).hexdigest()},
    }


def _message(text: str) -> str:
    """Return the text without links and placeholders: SARIF reads those from brackets and braces."""
    for sign, escaped in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), ("{", "{{"), ("}", "}}")):
        text = text.replace(sign, escaped)
    return sanitise(text)
