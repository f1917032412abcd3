"""Test how the process of a job offers batches and takes results, where two of its threads meet."""

from typing import Any

from faal_core.results.ledger import CLEAN, BatchResult
from faal_core.results.schedule import Batch
from jobs import sharing
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedBatch
from worker.exchange import Exchange


def test_a_batch_whose_result_has_come_is_not_taken_back(sessions, running_job, monkeypatch):
    """While the exchange takes a result from the table, the job does not take its batch for one that nobody computes."""
    key, batch = AuditKey(running_job, "identity"), Batch(CLEAN, 0, (0, 1, 2, 3))
    row = SharedBatch(**key._asdict(), number=0, attack=CLEAN, run=0, rows=[*batch.rows], worker="a", result="r")
    fields: dict[str, Any] = {**batch._asdict()}
    result = BatchResult.model_construct(**fields)
    discard, taken = sharing.discard, []

    def open_audit() -> list[SharedBatch]:
        with sessions.begin() as session:
            sharing.open_audit(session, key, 1, environment="e", body={})
            session.merge(row)
        return [row]

    def look_and_discard(*arguments) -> None:
        taken.append(exchange.take_back([batch]))
        discard(*arguments)

    monkeypatch.setattr(sharing, "discard", look_and_discard)
    with Exchange(sessions, key, 1, open_audit, list, lambda _: result) as exchange:
        assert [*exchange.take_results(10.0)] == [result]
    assert taken == [None]
