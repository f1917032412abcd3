"""The subject of a commit states its change."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.words import VERBS

ROOT = Path(__file__).parents[1]
LONGEST_SUBJECT = 72  # characters, which `git log` shows on one line
# Where a verb is expected.
PAST = re.compile(r"(?:\w+ed|\w+ing|Made|Wrote|Found|Kept|Fixes|Adds|Changes|Removes|Updates)")
VERBS_LIKE_PAST = {"Embed", "Exceed", "Feed", "Need", "Proceed", "Seed", "Shed", "Speed", "Bring", "String"} | VERBS


def recent_subjects() -> list[str]:
    """Return the subjects of this branch's own commits, or of the last commit on the main branch; none outside git."""
    if shutil.which("git") is None:
        return []
    for commits in ("origin/main..HEAD", "-1"):
        command = ["git", "log", "--no-merges", "--format=%s", commits]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout:
            return answer.stdout.splitlines()
    return []


def faults_of(subject: str) -> list[str]:
    """Return what is wrong with the subject of a commit."""
    verb = subject.split(maxsplit=1)[0].rstrip(",:") if subject.split() else ""
    faults = {
        f"longer than {LONGEST_SUBJECT} characters": len(subject) > LONGEST_SUBJECT,
        "ends with a period": subject.endswith("."),
        "does not begin with a capital letter": not subject[:1].isupper(),
        "does not begin with an imperative verb": verb not in VERBS_LIKE_PAST and PAST.fullmatch(verb) is not None,
    }
    return [fault for fault, is_present in faults.items() if is_present]


def test_subjects_of_commits() -> None:
    """Each new commit has a subject in the imperative that fits on a line."""
    faults = {subject: faults_found for subject in recent_subjects() if (faults_found := faults_of(subject))}
    assert faults == {}


@pytest.mark.parametrize(
    ("subject", "count"),
    [
        ("Arrange the packages by topic", 0),
        ("Speed up the check of uploads", 0),
        ('Revert "Arrange the packages"', 0),
        ("Added a test", 1),
        ("Adding a test.", 2),
        ("fix the build", 1),
        (f"Fixes {'x' * 70}", 2),
    ],
)
def test_faults_are_noticed(subject: str, count: int) -> None:
    """Length, period, capital letter and mood of the verb are checked."""
    assert len(faults_of(subject)) == count
