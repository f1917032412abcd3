"""The templates of the pages, and their filters for times, kinds and specs; rates are formatted as in reports."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import faal_core
from faal_client.vocabulary import Scope
from faal_core.reports import text
from faal_core.reports.wording import change_with_bounds
from faal_core.results.finetune_documents import Outcome
from faal_core.specs import AuditSettings
from faal_core.threat_model import ThreatModel
from jobs.states import JobKind, JobState

_FOLDER = Path(__file__).with_name("templates")

KINDS = {
    JobKind.FINETUNE: "Fine-tuning",
    JobKind.AUDIT: "Audit",
    JobKind.COMPARE: "Comparison",
    JobKind.CHECK_MODEL: "Check of a model",
    JobKind.MAKE_CANDIDATE: "Model of a candidate",
    JobKind.CHECK_DATASET: "Check of a data set",
}

OUTCOMES: Mapping[Outcome, str] = {
    "better": "better",
    "mixed": "worst class better, mean or classes lower",
    "worse": "worse",
    "unclear": "worst class not clearly better",
    "kept-original": "kept the original",
}


def ago(time: datetime) -> str:
    """Return the approximate time since then as text, such as "3 h ago"."""
    seconds = (datetime.now(UTC) - time).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def duration(span: timedelta) -> str:
    """Return a span of time as text, in its two largest units."""
    seconds = round(span.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def minutes(number: float) -> str:
    """Return a number of minutes as text: seconds where there are fewer than two, hours from two hours on."""
    if number < 2:
        return f"{max(1, round(60 * number))} s"
    return f"{number:.0f} min" if number < 120 else f"{number / 60:.1f} h"


def threat(spec: dict[str, object]) -> str:
    """Return the threat model of a job's spec as text."""
    return str(ThreatModel.model_validate(spec["threat"]))


def attacks(spec: Mapping[str, Any]) -> str:
    """Return the attacks of a job's spec as text: the name of their preset, or else their own names."""
    settings = AuditSettings.model_validate({"attacks": spec.get("audit", spec)["attacks"]})
    return settings.preset or ", ".join(str(attack) for attack in settings.attacks)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        ago,
        duration,
        minutes,
        threat,
        attacks,
        text.percent,
        text.points,
        text.bounds,
        change_with_bounds,
        text.with_bounds,
        text.time_left,
    )
    environment.filters.update({one.__name__: one for one in filters})
    environment.filters["shown"] = text.sanitise
    environment.globals.update(
        KINDS=KINDS,
        OUTCOMES=OUTCOMES,
        STATES=[*JobState],
        now=partial(datetime.now, UTC),
        version=faal_core.__version__,
    )
    return environment


def _signed_in(request: Request) -> dict[str, object]:
    """Return the owner whose session the page is shown in, or None, and whether the key of the request manages keys."""
    state = request.state
    return {
        "signed_in_as": getattr(state, "signed_in_as", None),
        "administers": Scope.ADMIN in getattr(state, "scopes", ()),
    }


templates = Jinja2Templates(env=_environment(), context_processors=[_signed_in])
