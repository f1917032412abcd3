"""Trials of the servers and folders that the service depends on."""

import asyncio
import time

from api.serving import readiness


def test_requests_at_the_same_time_share_a_trial() -> None:
    """Two hundred simultaneous requests all get an answer, from far fewer trials."""
    trials = []

    def trial() -> str:
        time.sleep(0.002)
        trials.append(1)
        return "a fault"

    async def ask() -> list[str | None]:
        part = readiness._Part(trial)
        answers = []
        for _ in range(10):
            answers += await asyncio.gather(*(part.fault() for _ in range(20)))
        return answers

    assert asyncio.run(ask()) == ["a fault"] * 200
    assert len(trials) <= 20


def test_a_trial_without_an_end_is_a_fault(monkeypatch) -> None:
    """After the deadline every request is answered, and the next one waits for the same trial."""
    monkeypatch.setattr(readiness, "DEADLINE_SECONDS", 0.1)
    trials = []

    async def ask() -> list[str | None]:
        part = readiness._Part(lambda: trials.append(time.sleep(0.5)))
        return [await part.fault(), await part.fault()]

    assert asyncio.run(ask()) == ["it has not answered within 0.1 s"] * 2
    assert len(trials) <= 1
