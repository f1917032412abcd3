"""The error tree."""

import re

from jobs import errors
from jobs.errors import JobsError


def _family(root: type[JobsError]) -> list[type[JobsError]]:
    return [member for child in root.__subclasses__() for member in (child, *_family(child))]


def test_tree_in_the_docstring():
    """The tree drawn in the module's docstring names every error once, with its code."""
    lines = re.findall(r"[├└]── (\w+) +([a-z-]+) ", errors.__doc__)
    assert sorted(lines) == sorted(
        (kind.__name__, kind.code) for kind in _family(JobsError) if not kind.__subclasses__()
    )


def test_codes_are_unique():
    """No two errors share a code."""
    codes = [kind.code for kind in _family(JobsError)]
    assert len(codes) == len(set(codes))


def test_message():
    """The message of an error is its sentence, or its code where no sentence was given."""
    assert errors.JobNotFound("There is no job 'x'.").message == "There is no job 'x'."
    assert errors.JobNotFound().message == "job-not-found"
