"""The system's counter of kills."""

from worker import memory


def test_kills_are_counted():
    """The system's counter is a number that does not fall."""
    first = memory.count_kills()
    assert 0 <= first <= memory.count_kills()
