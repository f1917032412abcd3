"""Queries about jobs, models and data sets."""

import pytest
from sqlalchemy import update

from jobs import control, dataset_registry, job_order, lifecycle, model_registry, queries
from jobs.clock import now
from jobs.errors import DatasetNotFound, JobCancelled, JobFailed, JobNotFound, ModelNotFound
from jobs.states import JobKind, JobState, UploadState
from jobs.tables import Dataset, Job, Model
from tests.job_steps import SPEC, UPLOAD, queue_audit, submit_job


def test_pages(sessions, model_id):
    """Pages hold the newest jobs first, each once, also when jobs are added between two pages."""
    audits = [queue_audit(sessions, model_id) for _ in range(5)]
    with sessions() as session:
        first = queries.list_jobs(session, limit=2, kind=JobKind.AUDIT)
    queue_audit(sessions, model_id)
    with sessions() as session:
        second = queries.list_jobs(session, limit=2, kind=JobKind.AUDIT, after=first.data[-1].id)
        third = queries.list_jobs(session, limit=2, kind=JobKind.AUDIT, after=second.data[-1].id)
    assert [job.id for page in (first, second, third) for job in page.data] == audits[::-1]
    assert [page.has_more for page in (first, second, third)] == [True, True, False]


def test_a_page_of_large_rows_ends_early(sessions):
    """A page holds at most 4 MiB of specs and at least one model, reports that there are more, and the next page follows it."""
    sizes = [100, 5 * 2**20, 2 * 2**20 - 100, 2 * 2**20 - 100, 2**20]
    with sessions.begin() as session:
        models = [Model(name="m", owner="ann", state=UploadState.READY, spec={"note": "x" * size}) for size in sizes]
        session.add_all(models)
        session.flush()
        ids = [model.id for model in models]
    pages, after = [], None
    with sessions() as session:
        for _ in range(4):
            page = model_registry.list_models(session, after=after, limit=10)
            pages.append([model.id for model in page.data])
            after = page.last_id
            assert page.has_more is (after != ids[0])
    assert pages == [[ids[4], ids[3]], [ids[2]], [ids[1]], [ids[0]]]


def test_a_page_of_large_events_ends_early(sessions, job_id):
    """A page of events holds at most 4 MiB of bodies, also of the newest events, and reports that there are more."""
    with sessions.begin() as session:
        lifecycle.claim(session, job_id, worker="w", lease_seconds=60)
        for epoch in range(3):
            lifecycle.record_progress(session, job_id, 1, event=("epoch", {"epoch": epoch, "note": "x" * (3 * 2**19)}))
    with sessions() as session:
        first, more = queries.list_event_page(session, job_id)
        assert ([event.kind for event in first], more) == (["queued", "running", "epoch", "epoch"], True)
        last, more = queries.list_event_page(session, job_id, after=first[-1].seq)
        assert ([event.body["epoch"] for event in last], more) == ([2], False)
        newest = queries.list_newest_events(session, job_id, "epoch")
        assert [event.body["epoch"] for event in newest] == [1, 2]


def test_choices_are_what_is_ready(sessions, model_id):
    """Models and data sets to choose from are the newest ready ones, with the fields that distinguish them."""
    with sessions.begin() as session:
        model_registry.register_upload(session, name="new", spec=SPEC, upload=UPLOAD, owner="ann")
        dataset = Dataset(name="signs", owner="ann", state=UploadState.READY)
        session.add_all([dataset, Dataset(name="other", owner="ann", state=UploadState.REJECTED)])
        session.flush()
        signs = dataset.id
    with sessions() as session:
        models = model_registry.list_ready(session, limit=10)
        assert [(model.id, model.architecture, model.num_classes) for model in models] == [
            (model_id, SPEC.architecture, SPEC.num_classes)
        ]
        assert dataset_registry.list_ready(session, limit=10) == {signs: "signs"}
        assert dataset_registry.find_names(session, {signs, "fashion-mnist-subset"}) == {signs: "signs"}


def test_a_full_last_page(sessions, model_id):
    """A page that holds exactly the rest reports that there is no more."""
    queue_audit(sessions, model_id)
    with sessions() as session:
        assert not queries.list_jobs(session, limit=1, kind=JobKind.AUDIT).has_more


def test_filters(sessions, model_id):
    """A list holds only jobs that fit every filter given."""
    audit = queue_audit(sessions, model_id)
    with sessions.begin() as session:
        request = {"kind": JobKind.FINETUNE, "model_id": model_id, "dataset": "mnist", "spec": {}, "owner": "ann"}
        tagged_job = submit_job(session, **request, metadata={"team": "a b", "run": "7"}).id
        cancelled_job = submit_job(session, **request, metadata={"team": "a b"}).id
        control.cancel(session, cancelled_job)

    def ids(**filters: object) -> set[str]:
        with sessions() as session:
            return {job.id for job in queries.list_jobs(session, **filters).data}

    assert ids(kind=JobKind.FINETUNE) == {tagged_job, cancelled_job}
    assert ids(status=JobState.QUEUED) == {audit, tagged_job}
    assert ids(metadata=[("team", "a b")]) == {tagged_job, cancelled_job}
    assert ids(metadata=[("team", "a b"), ("run", "7"), ("run", "7")]) == {tagged_job}
    assert ids(metadata=[("team", "a")]) == ids(metadata=[("run", "8"), ("run", "7")]) == set()
    assert ids(status=JobState.CANCELLED, kind=JobKind.FINETUNE, model_id=model_id) == {cancelled_job}
    assert ids(model_id="model_none") == set()


def test_checks_are_left_out_on_request(sessions, model_id):
    """Without checks, a list has no checks of uploads, unless it is filtered by their kind."""
    audit = queue_audit(sessions, model_id)
    with sessions() as session:
        assert [job.id for job in queries.list_jobs(session, checks=False).data] == [audit]
        checks = queries.list_jobs(session, checks=False, kind=JobKind.CHECK_MODEL).data
        assert [job.kind for job in checks] == [JobKind.CHECK_MODEL]


def test_search(sessions, model_id):
    """A search finds jobs by id, by a part of the name of their model or data set, and by metadata, in any letters."""
    with sessions.begin() as session:
        dataset = Dataset(name="Straßen 100%_", owner="ann", state=UploadState.READY)
        session.add(dataset)
        session.flush()
        uploaded = Job(kind=JobKind.AUDIT, owner="ann", dataset=dataset.id, spec={}, payload_sha256="0")
        session.add(uploaded)
    tagged = queue_audit(sessions, model_id, metadata={"ticket": 'Zürich "7"'})
    other = queue_audit(sessions, model_id, metadata={"ticket": "8"})

    def ids(search: str, **filters: object) -> set[str]:
        with sessions.for_owner("ann")() as session:
            return {job.id for job in queries.list_jobs(session, search=search, kind=JobKind.AUDIT, **filters).data}

    assert ids("IGIT") == ids("digits") == {tagged, other}
    assert ids("straßen") == ids("100%_") == {uploaded.id}
    assert ids("%%") == ids("1_0") == ids('t": "8') == set()
    assert ids('ürich "7"') == ids('üRICH "7"') == {tagged}
    if (
        sessions.engine.dialect.name == "sqlite"
    ):  # the tests' PostgreSQL has the locale C, whose small letters are those of ASCII
        assert ids('ÜRICH "7"') == {tagged}
    assert ids("mnist", metadata=[("ticket", "8")]) == {other}
    assert ids(tagged[8:]) == {tagged}
    with sessions.for_owner("ben")() as session:
        assert queries.list_jobs(session, search="digits").data == []


def test_a_search_in_metadata_finds_exactly_its_text(sessions, model_id):
    """A search finds the jobs with the text in a key or a value, and does not see how the database writes them."""
    texts = ("ü", '"', "\\", "\\n", "%", "_", "/", "'", "😀", "a: b", "{}", '", "', "u00fc")
    jobs = {
        text: queue_audit(sessions, model_id, metadata={f"key-{number}-": f"see {text} here", "other": "y"})
        for number, text in enumerate(texts)
    }

    def ids(search: str) -> list[str]:
        with sessions() as session:
            return [job.id for job in queries.list_jobs(session, search=search).data]

    for number, (text, job_id) in enumerate(jobs.items()):
        assert ids(f"ee {text} h") == ids(f"KEY-{number}-") == [job_id], text
    assert ids("ü") == [jobs["ü"]]
    assert ids("u00fc") == [jobs["u00fc"]]
    assert ids("😀") == [jobs["😀"]]
    assert ids('", "') == [jobs['", "']]
    assert ids("{") == [jobs["{}"]]
    assert ids("\\") == [jobs["\\n"], jobs["\\"]]
    assert ids('": "') == ids(", o") == []


@pytest.mark.parametrize("order", ["created", "epsilon", "robust_mean", "robust_worst", "metadata.run"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_orders(sessions, model_id, order, sign):
    """Each order lists the jobs that have its value once, in pages, equal values by age, and the reverse after a minus sign."""
    values = [0.3, 0.1, None, 0.2, 0.2, 0.1, 0.3]
    with sessions.begin() as session:
        for value in values:
            figures = dict.fromkeys(("epsilon", "robust_mean", "robust_worst"), value)
            metadata = {} if value is None else {"run": str(value)}
            session.add(
                Job(kind=JobKind.AUDIT, owner="ann", spec={}, payload_sha256="0", metadata_=metadata, **figures)
            )
            session.flush()
    seen, after, more = [], None, True
    while more:
        with sessions.for_owner("ann")() as session:
            page = queries.list_jobs(session, kind=JobKind.AUDIT, order=sign + order, after=after, limit=2)
        seen, after, more = [*seen, *page.data], page.last_id, page.has_more
    ages = {job.id: age for age, job in enumerate(sorted(seen, key=lambda job: job.id))}
    keys = [(0 if order == "created" else job.robust_worst, ages[job.id]) for job in seen]
    assert keys == sorted(keys, reverse=bool(sign))
    assert len(keys) == len(set(keys)) == (7 if order == "created" else 6)


def test_an_order_ends_where_its_last_job_was_deleted(sessions, model_id):
    """A page by value after a job that does not exist is refused; by age it continues, since ids contain the time."""
    job = queue_audit(sessions, model_id)
    with sessions() as session:
        with pytest.raises(JobNotFound, match="List from the start"):
            queries.list_jobs(session, order="epsilon", after="job_z")
        assert queries.list_jobs(session, after="job_z").data[0].id == job


@pytest.mark.parametrize("filters", [{"search": "digits"}, {"order": "metadata.run"}])
def test_only_the_newest_jobs_are_searched(sessions, model_id, monkeypatch, filters):
    """A search, and an order by metadata, look at a limited number of newest jobs."""
    monkeypatch.setattr(job_order, "SEARCHED", 2)
    audits = [queue_audit(sessions, model_id, metadata={"run": f"{number}"}) for number in range(3)]
    with sessions() as session:
        assert {job.id for job in queries.list_jobs(session, **filters).data} == set(audits[1:])


def test_events_go_on_where_a_reader_stopped(sessions, job_id):
    """Events come oldest first, and only those after the last number that the reader has."""
    with sessions.begin() as session:
        lifecycle.claim(session, job_id, worker="w", lease_seconds=60)
        for epoch in range(3):
            lifecycle.record_progress(session, job_id, 1, event=("epoch", {"epoch": epoch}))
    with sessions() as session:
        assert [event.kind for event in queries.list_events(session, job_id)] == ["queued", "running", *["epoch"] * 3]
        assert [event.body["epoch"] for event in queries.list_events(session, job_id, after=3)] == [1, 2]
        assert [event.seq for event in queries.list_events(session, job_id, limit=2)] == [1, 2]


def test_the_newest_events_of_a_kind(sessions, job_id):
    """The last events of one kind come oldest first, and all are counted by kind."""
    with sessions.begin() as session:
        lifecycle.claim(session, job_id, worker="w", lease_seconds=60)
        for epoch in range(5):
            lifecycle.record_progress(session, job_id, 1, event=("epoch", {"epoch": epoch}))
            lifecycle.record_progress(session, job_id, 1, event=("stage", {}))
    with sessions() as session:
        newest = queries.list_newest_events(session, job_id, "epoch", limit=2)
        assert [event.body["epoch"] for event in newest] == [3, 4]
        assert queries.list_newest_events(session, job_id, "attack") == []
        assert queries.count_events(session, job_id) == {"queued": 1, "running": 1, "epoch": 5, "stage": 5}


def test_a_long_lineage_comes_in_pages(sessions, model_id):
    """The next page of a model's lineage starts at the parent of the last model before it, and the last ends at the upload."""
    with sessions.begin() as session:
        chain = [model_id]
        for number in range(4):
            child = Model(name=f"{number}", owner="ann", state=UploadState.READY, spec={}, parent_model_id=chain[-1])
            session.add(child)
            session.flush()
            chain.append(child.id)
    chain.reverse()
    with sessions() as session:
        first = model_registry.list_lineage(session, chain[0], limit=2)
        second = model_registry.list_lineage(session, chain[0], after=first.last_id, limit=3)
        assert ([model.id for model in first.data], first.has_more) == (chain[:2], True)
        assert ([model.id for model in second.data], second.has_more) == (chain[2:], False)
        assert model_registry.list_lineage(session, chain[0], after=chain[-1]).data == []


def test_reports(sessions, model_id):
    """A job without an end has no report yet; a failed or cancelled one never will, and the error gives the reason."""
    failed_job, cancelled_job = queue_audit(sessions, model_id), queue_audit(sessions, model_id)
    with sessions.begin() as session:
        assert queries.find_report(session, failed_job) is None
        lifecycle.claim(session, failed_job, worker="w", lease_seconds=60)
        lifecycle.fail(session, failed_job, 1, code="training-diverged", message="The loss is NaN.")
        control.cancel(session, cancelled_job)
    with sessions() as session:
        with pytest.raises(JobFailed, match="The loss is NaN"):
            queries.find_report(session, failed_job)
        with pytest.raises(JobCancelled, match=cancelled_job):
            queries.find_report(session, cancelled_job)


def test_what_does_not_exist(sessions):
    """A query for an unknown id is an error that names it."""
    with sessions() as session:
        for ask in (queries.find_job, queries.list_events, queries.count_events, queries.find_report):
            with pytest.raises(JobNotFound, match="job_none"):
                ask(session, "job_none")
        for ask in (model_registry.find_model, model_registry.list_lineage):
            with pytest.raises(ModelNotFound, match="model_none"):
                ask(session, "model_none")
        with pytest.raises(DatasetNotFound, match="dataset_none"):
            dataset_registry.find_dataset(session, "dataset_none")


def test_lists_of_uploads(sessions):
    """Models and data sets are listed in pages too, newest first."""
    with sessions.begin() as session:
        models = [
            model_registry.register_upload(session, name=name, spec=SPEC, upload=UPLOAD, owner="ann")[0].id
            for name in "abc"
        ]
        datasets = [
            dataset_registry.register_upload(session, name=name, upload=UPLOAD, owner="ann")[0].id for name in "abc"
        ]
    with sessions() as session:
        page = model_registry.list_models(session, limit=2)
        rest = model_registry.list_models(session, limit=2, after=page.data[-1].id)
        assert [model.id for model in (*page.data, *rest.data)] == models[::-1]
        assert [dataset.id for dataset in dataset_registry.list_datasets(session).data] == datasets[::-1]


def test_figures_are_of_each_kind_and_state(sessions, model_id):
    """Jobs are counted by kind and state, with the seconds they waited and ran; empty groups are omitted."""
    ids = [queue_audit(sessions, model_id, seed=seed) for seed in range(4)]
    with sessions.begin() as session:
        for job_id in ids[:2]:
            lifecycle.claim(session, job_id, worker="w", lease_seconds=60)
        session.execute(update(Job).where(Job.id == ids[0]).values(created_at=now(-30), started_at=now(-20)))
        lifecycle.fail(session, ids[0], 1, code="internal-error", message="gone")
        session.execute(update(Job).where(Job.id == ids[2]).values(created_at=now(-100), crashes=2, leases_lost=1))
        session.execute(update(Job).where(Job.id == ids[3]).values(crashes=1, leases_lost=1))
    with sessions() as session:
        rows = {row.state: row for row in queries.compute_statistics(session) if row.kind is JobKind.AUDIT}
    assert {state: row.jobs for state, row in rows.items()} == {"failed": 1, "running": 1, "queued": 2}
    failed_row, queued_row = rows[JobState.FAILED], rows[JobState.QUEUED]
    assert (failed_row.starts, failed_row.ends, queued_row.starts, queued_row.ends) == (1, 1, 0, 0)
    assert [failed_row.wait_seconds, failed_row.run_seconds, queued_row.oldest] == pytest.approx([10, 20, 100], abs=2)
    assert (queued_row.wait_seconds, queued_row.run_seconds, queued_row.crashes, queued_row.leases_lost) == (0, 0, 3, 2)
