"""The templates of the pages, and their filters for times, kinds and specs; rates are formatted as in reports."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import Request
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import faal_core
from faal_core.reports import text
from faal_core.results.finetune_documents import Outcome
from faal_core.threat_model import ThreatModel
from jobs.states import JobKind

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


def threat(spec: dict[str, object]) -> str:
    """Return the threat model of a job's spec as text."""
    return str(ThreatModel.model_validate(spec["threat"]))


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
        threat,
        text.percent,
        text.points,
        text.bounds,
        text.with_bounds,
        text.time_left,
    )
    environment.filters.update({one.__name__: one for one in filters})
    environment.filters["shown"] = text.sanitise
    environment.globals.update(KINDS=KINDS, OUTCOMES=OUTCOMES, version=faal_core.__version__)
    return environment


def _signed_in(request: Request) -> dict[str, object]:
    """Return the owner whose session the page is shown in, or None."""
    return {"signed_in_as": getattr(request.state, "signed_in_as", None)}


templates = Jinja2Templates(env=_environment(), context_processors=[_signed_in])
