"""The schema's history: up, down, and equal to the tables."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select

from faal_core.results.finetune_documents import EpochRow, FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import FinetuneSpec
from jobs import lifecycle, queries
from jobs.database import SchemaTooNew, is_up_to_date, migration_engine, open_database, upgrade
from jobs.errors import OutcomesNotFound
from jobs.moves import add_job
from jobs.results import store_report
from jobs.states import JobKind, UploadState
from jobs.tables import Job, JobEvent, Model, Report, Table
from tests.job_steps import WEIGHTS, WORKER, add_ready_model, queue_audit, submit_job
from tests.sample_reports import sample_audit, sample_finetune, sample_outcomes
from tests.servers import run_python

ROOT = Path(__file__).parents[3]
UPGRADE = """
import sys
from pathlib import Path
from jobs.database import upgrade

while not Path(sys.argv[2]).exists():
    pass
upgrade(sys.argv[1])
"""


def _tables(url: str) -> set[str]:
    engine = migration_engine(url)
    return set(inspect(engine).get_table_names())


def test_upgrade_makes_every_table(database_url):
    """After an upgrade an empty database has all tables and is up to date; a second upgrade changes nothing."""
    assert not is_up_to_date(database_url)
    upgrade(database_url)
    assert _tables(database_url) == {*Table.metadata.tables, "alembic_version"}
    assert is_up_to_date(database_url)
    upgrade(database_url)


def test_a_later_schema_is_neither_used_nor_changed(database_url):
    """A database that a later version has migrated is refused by the check and by the upgrade."""
    upgrade(database_url)
    with migration_engine(database_url).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for action in (is_up_to_date, upgrade):
        with pytest.raises(SchemaTooNew, match="to revision 9999"):
            action(database_url)


def test_migrations_and_tables_agree(database_url):
    """The tables of the code equal those of the database after all migrations."""
    upgrade(database_url)
    with migration_engine(database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_downgrade_and_upgrade_again(database_url):
    """A downgrade to the start leaves no table of this project, and a new upgrade succeeds."""
    upgrade(database_url)
    configuration = Config(toml_file=ROOT / "pyproject.toml")
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "base")
    assert _tables(database_url) == {"alembic_version"}
    assert not is_up_to_date(database_url)
    upgrade(database_url)
    assert is_up_to_date(database_url)


def test_jobs_outlast_every_revision(database_url):
    """A stored job is kept by a downgrade to any revision and the upgrade from it."""
    upgrade(database_url)
    sessions = open_database(database_url)
    job_id = queue_audit(sessions, add_ready_model(sessions))
    configuration = Config(toml_file=ROOT / "pyproject.toml")
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        for revision in ("0018", "0002", "0001"):
            command.downgrade(configuration, revision)
    upgrade(database_url)
    with sessions() as session:
        job = queries.find_job(session, job_id)
    assert (job.spec, job.checkpoint, job.seconds_left) == ({"seed": 0}, None, None)
    sessions.close()


def test_foreign_keys_follow_the_naming_convention(database_url):
    """Migrations name foreign keys as the tables do, so that a later revision can drop them by that name."""
    upgrade(database_url)
    inspector = inspect(migration_engine(database_url))
    names = {key["name"] for table in _tables(database_url) for key in inspector.get_foreign_keys(table)}
    expected_names = {
        str(key.name) for table in Table.metadata.tables.values() for key in table.foreign_key_constraints
    }
    assert names == expected_names


def test_a_downgrade_rejects_the_candidates_that_nothing_will_make(database_url):
    """Revision 0013 does not know the jobs that make candidates; a downgrade removes them and rejects their models."""
    upgrade(database_url)
    sessions = open_database(database_url)
    given_model = add_ready_model(sessions)
    with sessions.begin() as session:
        model = Model(
            name="c",
            owner="ann",
            state=UploadState.VALIDATING,
            spec={},
            upload_sha256=WEIGHTS.sha256,
            parent_model_id=given_model,
            candidate=1,
        )
        session.add(model)
        session.flush()
        add_job(session, Job(kind=JobKind.MAKE_CANDIDATE, owner="ann", model_id=model.id, spec={}, payload_sha256=""))
    configuration = Config(toml_file=ROOT / "pyproject.toml")
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0013")
    upgrade(database_url)
    with sessions() as session:
        candidate, ready = session.get_one(Model, model.id), session.get_one(Model, given_model)
        assert session.scalars(select(Job).where(Job.kind == JobKind.MAKE_CANDIDATE)).all() == []
    assert (candidate.state, candidate.upload_sha256) == (UploadState.REJECTED, None)
    assert candidate.error == {"code": "job-cancelled", "message": "The job that made it was removed by a downgrade."}
    assert (ready.state, ready.sha256) == (UploadState.READY, WEIGHTS.sha256)
    sessions.close()


def test_a_downgrade_removes_comparisons_and_outcomes(database_url):
    """Revision 0017 knows neither; audits and their reports are kept, without outcomes and without their digests."""
    audit = sample_outcomes()[0]
    finetuning = sample_finetune()
    halves = {
        side: getattr(finetuning, side).model_copy(update={"outcomes_sha256": "a" * 64}) for side in ("before", "after")
    }
    finetuning = finetuning.model_copy(update=halves)
    assert audit.outcomes_sha256
    upgrade(database_url)
    sessions = open_database(database_url)
    job_id = queue_audit(sessions, add_ready_model(sessions))
    with sessions.begin() as session:
        lifecycle.claim(session, job_id, **WORKER)
        lifecycle.succeed(session, job_id, 1, report=audit.model_dump_json(), outcomes={"outcomes.parquet": WEIGHTS})
        comparison = add_job(session, Job(kind=JobKind.COMPARE, owner="ann", spec={"jobs": []}, payload_sha256=""))
        session.add(Report(job_id=comparison.id, document="{}"))
        fields = {"owner": "ann", "spec": finetuning.spec.model_dump(mode="json"), "payload_sha256": ""}
        job = add_job(session, Job(kind=JobKind.FINETUNE, **fields))
        session.add(Report(job_id=job.id, document=finetuning.model_dump_json()))
        job = add_job(session, Job(kind=JobKind.AUDIT, owner="ann", spec={}, payload_sha256=""))
        session.add(Report(job_id=job.id, document='{"version": 1}'))
    configuration = Config(toml_file=ROOT / "pyproject.toml")
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0017")
        older = [
            json.loads(document) for document in connection.scalars(select(Report.document).order_by(Report.job_id))
        ]
        connection.commit()
    upgrade(database_url)
    assert older[2] == {"version": 1}
    assert older[0] == audit.model_dump(mode="json", exclude={"outcomes_sha256"})
    assert older[1] == finetuning.model_dump(
        mode="json", exclude={"before": {"outcomes_sha256"}, "after": {"outcomes_sha256"}}
    )
    with sessions() as session:
        assert session.scalars(select(Job).where(Job.kind == JobKind.COMPARE)).all() == []
        assert session.scalars(select(Report.job_id).order_by(Report.job_id)).first() == job_id
        with pytest.raises(OutcomesNotFound):
            queries.find_outcomes(session, job_id)
    sessions.close()


def test_fine_tunings_get_the_names_of_today(database_url):
    """Revision 0017 renames the fields of stored fine-tunings, which can then be read; a downgrade restores the old names."""
    older = json.loads((ROOT / "tests/data/finetune_report_version_1.json").read_text())
    epoch = older["epochs"][0]
    upgrade(database_url)
    sessions = open_database(database_url)
    with sessions.begin() as session:
        job = Job(kind=JobKind.FINETUNE, owner="ann", model_id=None, spec=older["spec"], payload_sha256="")
        add_job(session, job)
        session.add(JobEvent(job_id=job.id, seq=2, kind="epoch", body=epoch))
        session.add(Report(job_id=job.id, document=json.dumps(older)))
        audit = Job(kind=JobKind.AUDIT, owner="ann", model_id=None, spec={"seed": 0}, payload_sha256="")
        add_job(session, audit)
        session.add(Report(job_id=audit.id, document="{}"))
    configuration = Config(toml_file=ROOT / "pyproject.toml")
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0016")
        command.upgrade(configuration, "head")
    with sessions() as session:
        row, event = session.get_one(Job, job.id), session.get_one(JobEvent, (job.id, 2))
        report = read_report(session.get_one(Report, job.id).document)
        assert isinstance(report, FinetuneReport)
        assert FinetuneSpec.model_validate(row.spec) == report.spec
        assert EpochRow.model_validate(event.body) == report.epochs[0]
        assert session.get_one(Report, audit.id).document == "{}"
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0016")
    with sessions() as session:
        assert session.scalars(select(Job.spec).where(Job.id == job.id)).one() == older["spec"]
        assert session.get_one(JobEvent, (job.id, 2)).body == epoch
        assert json.loads(session.get_one(Report, job.id).document) == older
    sessions.close()


def test_jobs_get_the_figures_of_their_reports(database_url):
    """An upgrade sets the figures of lists from specs and reports, as a job gets them today; jobs without either get none."""
    upgrade(database_url)
    sessions = open_database(database_url, pooled=False)
    model_id = add_ready_model(sessions)
    figures = ("epsilon", "robust_mean", "robust_worst", "worst_class")

    def read_figures() -> dict[str, list[object]]:
        with sessions() as session:
            return {job.id: [getattr(job, name) for name in figures] for job in session.scalars(select(Job))}

    for report in (sample_audit(), sample_finetune(), None):
        with sessions.begin() as session:
            kind = JobKind.AUDIT if report is None else JobKind(report.kind)
            spec = {} if report is None else report.spec.model_dump(mode="json")
            job = submit_job(
                session, kind=kind, model_id=model_id, dataset="fashion-mnist-subset", spec=spec, owner="ann"
            )
            if report is not None:
                store_report(session, job, report.model_dump_json(), {})
    today = read_figures()
    assert [0.1, sample_finetune().after.robust.mean.rate] in [values[:2] for values in today.values()]
    configuration = Config(toml_file=ROOT / "pyproject.toml")
    with migration_engine(database_url).connect() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0018")
    upgrade(database_url)
    assert read_figures() == today
    sessions.close()


def test_processes_that_upgrade_at_once(database_url, tmp_path):
    """Three processes that upgrade one database at the same moment all succeed."""
    go = tmp_path / "go"
    with ExitStack() as stack:
        processes = [stack.enter_context(run_python(UPGRADE, database_url, str(go))) for _ in range(3)]
        go.touch()
        ends = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [(error, code) for error, code in ends if code != 0] == []
    assert is_up_to_date(database_url)


def test_the_check_takes_no_lock(database_url):
    """The check of the schema works while another process holds the database for writing."""
    upgrade(database_url)
    sessions = open_database(database_url)
    with sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM reports")
        assert is_up_to_date(database_url)
    sessions.close()


def test_the_command_line_uses_the_settings(tmp_path):
    """`alembic` in the repository works without an ini file, on the database of the settings, and finds no difference."""
    database = f"sqlite:///{tmp_path}/faal.db"
    environment = {**os.environ, "FAAL_DATABASE_URL": database}
    for arguments in (["upgrade", "head"], ["check"]):
        subprocess.run(
            [sys.executable, "-m", "alembic", *arguments], cwd=ROOT, env=environment, check=True, timeout=120
        )
    assert is_up_to_date(database)
