"""The format of times on pages."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import api.pages.templating
from api.pages.templating import KINDS, ago, duration, templates
from jobs.states import JobKind

TEMPLATES = Path(api.pages.templating.__file__).with_name("templates")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (59, "just now"),
        (61, "1 min ago"),
        (3 * 3600, "3 h ago"),
        (2 * 86400, "2 d ago"),
        (-5, "just now"),
    ],
)
def test_the_past_is_told_roughly(seconds: int, words: str) -> None:
    """A past time is given in the largest unit that fits; a clock ahead of the service's causes no error."""
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (225, "3 min 45 s"), (3600, "1 h 0 min"), (3600 * 25 + 61, "25 h 1 min")],
)
def test_spans_have_two_units(seconds: float, words: str) -> None:
    """A span of time is given in its two largest units."""
    assert duration(timedelta(seconds=seconds)) == words


def test_pages_call_a_fine_tuning_by_one_name() -> None:
    """The job, the method and the model are called fine-tuned everywhere, and no text, except in the style, says repair."""
    pages = {file.name: file.read_text("utf-8") for file in TEMPLATES.glob("*.html")}
    assert pages
    for name, page in pages.items():
        assert "repair" not in re.sub(r'class="[^"]*"', "", page).lower(), name
    assert KINDS[JobKind.FINETUNE] == "Fine-tuning"


def test_every_kind_of_job_has_a_name() -> None:
    """Every kind of job has a name on pages."""
    assert set(KINDS) == set(JobKind)


@pytest.mark.parametrize(
    ("doubtful", "doubtful_falls", "tone", "words"),
    [
        ([], 0, "worse", "4 accuracies fell"),
        (None, None, "worse", "4 accuracies fell"),
        (["zero-gradient"], 4, "mixed", "but the rates of the baseline may be far too high: zero-gradient"),
        (
            ["zero-gradient"],
            3,
            "worse",
            "but for 3 of them the rates of the baseline may be far too high: zero-gradient",
        ),
    ],
)
def test_doubtful_falls_of_a_plan_are_not_red(
    doubtful: list[str] | None, doubtful_falls: int | None, tone: str, words: str
) -> None:
    """The number of falls is red where one is beyond doubt, and has the warnings about the baseline beside it."""
    run = SimpleNamespace(falls=4, doubtful=doubtful, doubtful_falls=doubtful_falls, baseline="job_1")
    write = vars(templates.env.get_template("plan_parts.html").module)["falls"]
    text = " ".join(str(write(SimpleNamespace(baseline="job_1"), run)).split())
    assert f'<span class="status {tone}">4 accuracies fell</span>' in text
    assert words in text
    assert ("far too high" in text) is bool(doubtful)
