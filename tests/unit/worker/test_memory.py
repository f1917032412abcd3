"""The system's counter of kills."""

from worker import memory


def test_kills_are_counted():
    """The system's counter is a number that does not fall."""
    first = memory.kills()
    assert 0 <= first <= memory.kills()
