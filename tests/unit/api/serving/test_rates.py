"""Limits on the requests of an owner per minute."""

import math
import time

import pytest

from api.problems.errors import RateExceeded
from api.serving.rates import Rates


@pytest.mark.parametrize("second", [0, 1, 30, 59])
def test_every_minute_has_the_limit(monkeypatch: pytest.MonkeyPatch, second: int) -> None:
    """No 60 s hold more requests than allowed, wherever in the clock's minute they begin; the seconds to wait suffice."""
    began = 60_000_000 + second
    rates = Rates(20)
    for number in range(20):
        monkeypatch.setattr(time, "time", lambda number=number: began + number / 10)
        rates.count("owner")
    for seconds_later in (2, 30.6, 59.9):
        monkeypatch.setattr(time, "time", lambda later=seconds_later: began + later)
        with pytest.raises(RateExceeded) as refusal:
            rates.count("owner")
        assert refusal.value.seconds == math.ceil(60 - seconds_later)
        rates.count(f"another owner after {seconds_later} s")
    monkeypatch.setattr(time, "time", lambda: began + 60.01)
    rates.count("owner")
