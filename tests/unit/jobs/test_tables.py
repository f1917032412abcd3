"""Ids of rows."""

import time
from uuid import UUID

from jobs.tables import new_id


def test_ids_are_uuids_of_version_7():
    """After the prefix an id has a UUID of version 7 with the time in milliseconds in its first 48 bits (RFC 9562)."""
    before = time.time_ns() // 1_000_000
    prefix, digits = new_id("job").split("_")
    after = time.time_ns() // 1_000_000
    uuid = UUID(digits)
    assert (prefix, uuid.version, uuid.variant) == ("job", 7, "specified in RFC 4122")
    assert before <= uuid.int >> 80 <= after


def test_later_ids_sort_later():
    """Ids sort by the time of their creation, also within a millisecond."""
    ids = []
    for _ in range(200):
        ids.append(new_id("model"))
        time.sleep(0.000_01)
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
