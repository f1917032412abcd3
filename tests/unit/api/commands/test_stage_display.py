"""The output of a waiting command: stage, amount and estimate, in plain lines where there is no terminal."""

import io
import time
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from api.commands import stage_display
from api.commands.stage_display import StageClock
from faal_client import Client
from faal_client.resources.objects import Amount, JobResource
from jobs.states import JobState


def running_job(stage: str, done: int, total: int | None, seconds_left: float | None = None) -> JobResource:
    """Return a running job at that point; fields that are not displayed are absent."""
    amount = Amount(done=done, total=total, seconds_left=seconds_left)
    return cast("JobResource", SimpleNamespace(status=JobState.RUNNING, stage=stage, progress=amount))


class OneJobClient:
    """A client that always answers with the same job."""

    def job(self, job_id: str) -> JobResource:
        """Return a job in the middle of an audit."""
        return running_job(f"before: {job_id}", 500, 2000)


def test_the_time_left_follows_the_pace_of_the_stage() -> None:
    """A quarter done in 10 seconds leaves 30 seconds; a new stage has no estimate until its pace is known."""
    now = 0.0
    clock = StageClock(lambda: now)
    assert clock.describe(running_job("before: clean", 0, 400)) == "before: clean, 0 s so far"
    now = 10.0
    line = clock.describe(running_job("before: clean", 100, 400))
    assert line == "before: clean: 100 of 400 images, 10 s so far, about 30 s left"
    assert clock.describe(running_job("epoch 1 of 2", 50, 400)) == "epoch 1 of 2: 50 of 400 images, 0 s so far"
    now = 15.0
    assert clock.describe(running_job("epoch 1 of 2", 100, 400)).endswith(", 5 s so far, about 30 s left")
    assert clock.describe(running_job("epoch 1 of 2", 100, None)) == "epoch 1 of 2, 5 s so far"


def test_the_estimate_of_an_audit_is_shown() -> None:
    """The service's own estimate for the whole audit appears after the stage's."""
    line = StageClock().describe(running_job("before: clean", 1, 2, 90.0))
    assert line.endswith("about 90 s left of this audit")


def test_plain_lines_come_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are repeated while the work runs, without control characters."""
    monkeypatch.setattr(stage_display, "LINE_SECONDS", 0.02)
    output = io.StringIO()
    console = Console(file=output, highlight=False, markup=False, soft_wrap=True)
    with stage_display.show_stage(console, cast("Client", OneJobClient()), "PGD"):
        time.sleep(0.2)
    with stage_display.report_wait(console, "Starting the service"):
        time.sleep(0.2)
    text = output.getvalue()
    assert text.count("before: PGD: 500 of 2,000 images") >= 2
    assert "  Starting the service: 0 s so far\n" in text
    assert text.endswith("  done after 0 s\n")
    assert text.replace("\n", "").isprintable()


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar names the stage and counts."""
    monkeypatch.setattr(stage_display, "POLL_SECONDS", 0.02)
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with stage_display.show_stage(console, cast("Client", OneJobClient()), "PGD"):
        time.sleep(0.4)
    assert "before: PGD" in output.getvalue()
    assert "500/2000" in output.getvalue()
