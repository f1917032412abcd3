"""Sessions on both databases."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import NullPool, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError

from jobs import database, dataset_registry
from jobs.database import is_unavailable, open_database
from jobs.tables import Artifact, Dataset, Job, Model, Report
from tests.job_steps import UPLOAD, add_ready_model, queue_audit


def _artifact(number: int, size: int = 0) -> Artifact:
    return Artifact(sha256=f"{number:064x}", media_type="text/plain", size=size)


def test_begin_commits(sessions):
    """The rows that a block of `begin()` wrote are stored afterwards, and can be used after the session is closed."""
    with sessions.begin() as session:
        session.add(_artifact(1, size=7))
    with sessions() as session:
        artifact = session.get_one(Artifact, f"{1:064x}")
    assert artifact.size == 7


def test_begin_rolls_back(sessions):
    """An exception in a block of `begin()` undoes all of it."""

    def write_and_fail() -> None:
        with sessions.begin() as session:
            session.add(_artifact(1))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    with sessions() as session:
        assert session.get(Artifact, f"{1:064x}") is None


def test_a_reading_session_cannot_write(sessions):
    """A session made without `begin()` refuses to write, on both databases, and the next writing session works."""
    with sessions() as session:
        session.add(_artifact(1))
        with pytest.raises(DBAPIError, match=r"read-?only"):
            session.flush()
    test_begin_commits(sessions)


def test_readers_do_not_wait_for_writers(sessions):
    """While a transaction writes, readers read the committed rows at once."""
    with sessions.begin() as session:
        session.add(_artifact(1, size=1))
    with sessions.begin() as writer:
        writer.get_one(Artifact, f"{1:064x}").size = 2
        writer.flush()
        with sessions() as reader:
            assert reader.get_one(Artifact, f"{1:064x}").size == 1


def test_writers_wait_for_each_other(sessions):
    """Eight threads that each increment a number 25 times in a transaction lose no increment and never fail."""
    with sessions.begin() as session:
        session.add(_artifact(1))

    def add_one(_: int) -> None:
        with sessions.begin() as session:
            row = session.get_one(Artifact, f"{1:064x}", with_for_update=True)
            row.size += 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add_one, range(200)))
    with sessions() as session:
        assert session.get_one(Artifact, f"{1:064x}").size == 200


def test_foreign_keys_hold(sessions):
    """A report of a job that does not exist is refused, on SQLite too."""
    with pytest.raises(IntegrityError), sessions.begin() as session:
        session.add(Report(job_id="job_none", document="{}"))


def test_documents_are_json(sessions, job_id):
    """NaN is not JSON: both databases refuse it."""
    with pytest.raises((StatementError, ValueError), match="not JSON compliant"), sessions.begin() as session:
        session.get_one(Job, job_id).spec = {"loss": float("nan")}


def test_a_worker_holds_no_connection(database_url):
    """Without a pool, a connection is closed with its session: a worker that computes for hours holds none."""
    sessions = open_database(database_url, pooled=False)
    with sessions() as session:
        session.execute(text("SELECT 1"))
    assert isinstance(sessions.engine.pool, NullPool)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_memory_is_not_shared(url):
    """A database in memory cannot be shared by api and workers and is refused with advice."""
    with pytest.raises(ValueError, match="names no file"):
        open_database(url)


def test_the_folder_is_made(tmp_path):
    """The folder of a SQLite file is created if it does not exist."""
    sessions = open_database(f"sqlite:///{tmp_path}/new/folder/faal.db")
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(text("sqlite_master"))) == 0
    sessions.close()


def test_many_open_a_new_database_at_once(tmp_path):
    """Sixteen threads that open one new SQLite file at the same moment all succeed."""
    gate = threading.Barrier(16)

    def open_it(_: int) -> str:
        sessions = open_database(f"sqlite:///{tmp_path}/faal.db", pooled=False)
        gate.wait()
        with sessions() as session:
            return session.scalar(text("PRAGMA journal_mode"))

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(open_it, range(16))) == {"wal"}


def test_others_rows_are_not_there(sessions):
    """In one owner's sessions the rows of other owners are not found, listed, counted or changed."""
    model_id = add_ready_model(sessions)  # ann's, as is the job
    job_id = queue_audit(sessions, model_id)
    with sessions.begin() as session:
        dataset, _ = dataset_registry.register_upload(session, name="signs", upload=UPLOAD, owner="ann")
    own: list[tuple[Any, str]] = [(Job, job_id), (Model, model_id), (Dataset, dataset.id)]
    for owner, seen in [("ann", True), ("ben", False), ("ann", True)]:
        with sessions.for_owner(owner)() as session:
            for table, row_id in own:
                assert (session.get(table, row_id) is not None) is seen
                assert (row_id in session.scalars(select(table.id)).all()) is seen
                assert (session.scalar(select(func.count()).select_from(table)) > 0) is seen
        with sessions.for_owner(owner).begin() as session:
            for table, row_id in own:
                change = update(table).where(table.id == row_id).values(owner=table.owner).returning(table.id)
                assert (session.scalars(change).one_or_none() == row_id) is seen


def test_a_statement_without_an_answer_is_given_up(postgres, monkeypatch):
    """A statement that PostgreSQL does not answer in time is an outage, and its connection is not used again."""
    monkeypatch.setattr(database, "ANSWER_SECONDS", 0.3)
    name = postgres.new_database()
    sessions = open_database(postgres.url(name))
    start = time.monotonic()
    with pytest.raises(OperationalError, match="did not answer within") as failure, sessions() as session:
        session.execute(text("SELECT pg_sleep(20)"))
    assert time.monotonic() - start < 5
    assert is_unavailable(failure.value)
    with sessions() as session:
        assert session.scalar(text("SELECT 1")) == 1
    sessions.close()
    postgres.drop_database(name)
