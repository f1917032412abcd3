"""Test which audits an idle worker helps with, by processes that end at once."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.job_steps import share_audit
from worker.helping import OTHER_ENVIRONMENT, OTHER_WORK, Helping
from worker.process_group import ProcessGroup


class Helpers:
    """Starts processes that end at once with that exit status, and records what each was started for."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.helped: list[str] = []
        self.folders: list[Path] = []

    def start(self, key, folder) -> ProcessGroup:
        """Start the process."""
        assert Path(folder).is_dir()
        self.helped.append(key.identity)
        self.folders.append(Path(folder))
        return ProcessGroup([sys.executable, "-c", f"raise SystemExit({self.status})"], os.environ)


@pytest.fixture
def help_idly(sessions, settings):
    """Return a function that lets one worker help until no audit is left, and returns what it helped with."""

    def run(helpers: Helpers, helping: Helping | None = None) -> Helping:
        helping = helping or Helping(
            settings, sessions, "w", start=helpers.start, claim_next=lambda: None, is_stopping=lambda: False
        )
        assert helping.help_until_job_waits() is None
        return helping

    return run


@pytest.mark.parametrize(
    ("status", "helped"),
    [(OTHER_ENVIRONMENT, ["one", "three"]), (OTHER_WORK, ["one", "two", "three"]), (1, ["one", "two", "three"])],
)
def test_what_cannot_be_helped_is_refused(sessions, help_idly, status, helped):
    """A worker tries an audit once if its process fails, and none of the same environment if that differs from its own."""
    for identity, environment in (("one", "e"), ("two", "e"), ("three", "f")):
        share_audit(sessions, identity=identity, environment=environment)
    helpers = Helpers(status)
    help_idly(helpers)
    assert helpers.helped == helped


@pytest.mark.parametrize(("status", "minutes"), [(0, 1), (1, 3)])
def test_some_refusals_end(sessions, help_idly, monkeypatch, status, minutes):
    """A worker helps again a minute after it found nothing to do, and three minutes after its process failed, not before."""
    share_audit(sessions)
    helpers = Helpers(status)
    helping = help_idly(helpers)
    counts = []
    for later in (0, 1, 3):
        clock = SimpleNamespace(monotonic=lambda seconds=60 * later: time.monotonic() + seconds)
        monkeypatch.setattr("worker.helping.time", clock)
        help_idly(helpers, helping)
        counts.append(len(helpers.helped))
    assert counts == [1 + sum(at >= minutes for at in (1, 3) if at <= later) for later in (0, 1, 3)]


def test_other_work_is_refused_for_ever(sessions, help_idly, monkeypatch):
    """A worker that cannot compute an audit as the job does never tries it again."""
    share_audit(sessions)
    helpers = Helpers(OTHER_WORK)
    helping = help_idly(helpers)
    monkeypatch.setattr("worker.helping.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 1e6))
    help_idly(helpers, helping)
    assert len(helpers.helped) == 1


def test_files_of_a_helper_go_with_it(sessions, settings, help_idly):
    """A helper has a folder of its own in that of the job, which is removed when the helper ends."""
    key = share_audit(sessions)
    helpers = Helpers(1)
    help_idly(helpers)
    (folder,) = helpers.folders
    assert folder.parent == settings.checkpoints_dir / key.job_id
    assert not folder.exists()
