"""API keys are issued, recognised and refused, and cannot be read anywhere."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from faal_client.vocabulary import Scope
from jobs import keys, model_registry, partial_uploads, queries, webhooks
from jobs.database import Sessions, open_database, read_owner, upgrade
from jobs.errors import CannotStart, KeyNotFound, KeyRefused
from jobs.settings import Settings
from jobs.states import JobKind, UploadState
from jobs.tables import Job, Model, PartialUpload, Webhook
from tests.job_steps import add_ready_model, queue_audit, submit_job

SECRET = b"the site's own secret, of some length"


def issue(sessions: Sessions, *, lifetime: timedelta | None = None, owner: str = "ann") -> tuple[str, str]:
    """Issue a key, and return its id and the key."""
    with sessions.begin() as session:
        row, key = keys.issue(session, SECRET, owner=owner, name="laptop", scopes=[Scope.READ], lifetime=lifetime)
        return row.id, key


def test_a_key_is_known_until_it_is_revoked(sessions):
    """A key identifies its holder until it is revoked; then it is refused, by key and by id, and its row remains."""
    with sessions() as session:
        assert not keys.exist(session)
    key_id, key = issue(sessions)
    with sessions() as session:
        holder = keys.authenticate(session, SECRET, key)
        assert (holder.id, holder.owner, holder.scopes) == (key_id, "ann", ["read"])
        assert keys.require_valid(session, key_id).id == key_id
    with sessions.begin() as session:
        first = keys.revoke(session, key_id).revoked_at
    with sessions.begin() as session:
        assert keys.revoke(session, key_id).revoked_at == first
        for look in (lambda: keys.authenticate(session, SECRET, key), lambda: keys.require_valid(session, key_id)):
            with pytest.raises(KeyRefused):
                look()
        assert keys.exist(session)


def test_the_first_key_takes_over_what_was_there(sessions):
    """The owner of the first key has all objects from before it; a second key, of another owner, changes no owner."""
    model_id = add_ready_model(sessions, owner=keys.ANYBODY)
    job_id = queue_audit(sessions, model_id, owner=keys.ANYBODY, key="again")
    issue(sessions, owner="ann")
    with sessions.begin() as session:
        session.add(Model(name="m", owner=keys.ANYBODY, state=UploadState.READY, spec={}))
    issue(sessions, owner="ben")
    with sessions() as session:
        assert session.scalars(select(Model.owner).order_by(Model.id)).all() == ["ann", keys.ANYBODY]
        assert set(session.scalars(select(Job.owner))) == {"ann"}
    with sessions.for_owner("ann")() as session:
        assert queries.find_job(session, job_id).model_id == model_id
    assert queue_audit(sessions, model_id, owner="ann", key="again") == job_id


@pytest.mark.parametrize("first", ["ann", keys.ANYBODY, None])
def test_a_request_that_the_first_key_overtakes(sessions, first):
    """A request without a key that writes after the first key writes for its owner; a request with a key keeps its own."""
    if first is not None:
        issue(sessions, owner=first)
        issue(sessions, owner="ben")
    present = first or keys.ANYBODY
    with keys.open_keyless(sessions).begin() as session:
        assert read_owner(session) == present
        session.add(Model(name="m", owner=read_owner(session), state=UploadState.READY, spec={}))
    with sessions.for_owner(keys.ANYBODY).begin() as session:
        assert read_owner(session) == keys.ANYBODY
        assert len(model_registry.list_models(session).data) == (present == keys.ANYBODY)
    with keys.open_keyless(sessions).begin() as session:
        assert len(model_registry.list_models(session).data) == 1


def test_the_first_key_misses_no_row_of_a_request_that_writes(sessions):
    """The first key waits for requests without a key that write, and then takes over all their rows."""
    model_id = add_ready_model(sessions, owner=keys.ANYBODY)
    keyless = keys.open_keyless(sessions)
    with ThreadPoolExecutor(1) as pool:
        with keyless.begin() as session:
            owner, terms = read_owner(session), {"model_id": model_id, "dataset": "fashion-mnist-subset"}
            submit_job(session, kind=JobKind.AUDIT, spec={}, owner=owner, **terms)  # which locks the model
            waiting = pool.submit(issue, sessions, owner="ann")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            webhooks.add_webhook(session, owner=owner, url="https://example.org")
            partial_uploads.begin(session, owner=owner, size=1)
        waiting.result()
    with sessions() as session:
        for table in (Job, Model, Webhook, PartialUpload):
            assert set(session.scalars(select(table.owner))) == {"ann"}, table


def test_requests_without_a_key_do_not_wait_for_each_other(postgres):
    """On PostgreSQL two requests without a key write at the same time."""
    url = postgres.url(postgres.new_database())
    upgrade(url)
    keyless = keys.open_keyless(open_database(url, pooled=False))
    with keyless.begin(), keyless.begin() as session:
        assert read_owner(session) == keys.ANYBODY


def test_a_first_key_of_the_same_owner_changes_nothing(sessions):
    """A first key for the owner of all objects leaves them as they are."""
    model_id = add_ready_model(sessions, owner=keys.ANYBODY)
    issue(sessions, owner=keys.ANYBODY)
    with sessions() as session:
        assert session.get_one(Model, model_id).owner == keys.ANYBODY


def test_a_key_runs_out(sessions):
    """An expired key is refused, one that is still valid is accepted."""
    _, expired_key = issue(sessions, lifetime=timedelta(seconds=-1))
    _, running = issue(sessions, lifetime=timedelta(minutes=1))
    with sessions() as session:
        assert keys.authenticate(session, SECRET, running).owner == "ann"
        with pytest.raises(KeyRefused):
            keys.authenticate(session, SECRET, expired_key)


@pytest.mark.parametrize("change", ["", "faal_", "x", "\x00", "ключ"])
def test_anything_else_is_refused(sessions, change):
    """A truncated or invented key, or one of another site's secret, is refused."""
    _, key = issue(sessions)
    with sessions() as session:
        for wrong in (change, key + change + "A", key[:-1]):
            with pytest.raises(KeyRefused):
                keys.authenticate(session, SECRET, wrong)
        with pytest.raises(KeyRefused):
            keys.authenticate(session, b"another site's secret, of some length", key)


def test_the_database_does_not_tell_a_key(sessions):
    """No column of the table holds the key or a part of it."""
    _, key = issue(sessions)
    with sessions() as session:
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert not any(key[5:15] in str(value) for value in row)


def test_revoking_what_is_not_there(sessions):
    """Revoking an unknown id is an error."""
    with sessions.begin() as session, pytest.raises(KeyNotFound, match="key_none"):
        keys.revoke(session, "key_none")


def test_keys_are_listed_newest_first(sessions):
    """The pages list the keys of all owners, refused ones included, newest first."""
    ids = [issue(sessions, owner=owner)[0] for owner in ("ann", "ben", "cem")]
    with sessions() as session:
        first = keys.list_keys(session, limit=2)
        rest = keys.list_keys(session, limit=2, after=first.data[-1].id)
    assert [row.id for row in [*first.data, *rest.data]] == ids[::-1]
    assert (first.has_more, rest.has_more) == (True, False)


def test_keys_of_one_owner_are_listed_and_counted(sessions):
    """A list can be of one owner; the count leaves out revoked and expired keys, and keys of others."""
    (first, _), (second, _), _ = (issue(sessions, owner=owner) for owner in ("ann", "ann", "ben"))
    expired, _ = issue(sessions, lifetime=timedelta(seconds=-1))
    with sessions.begin() as session:
        assert [row.id for row in keys.list_keys(session, owner="ann").data] == [expired, second, first]
        assert keys.count_valid_keys(session, "ann") == 2
        keys.revoke(session, first)
        assert [keys.count_valid_keys(session, owner) for owner in ("ann", "ben", "cem")] == [1, 1, 0]


def test_processes_agree_on_the_secret(tmp_path):
    """The first of several simultaneous processes writes the secret, readable by its user only; the others read the same one."""

    def ask(_: int) -> bytes:
        return keys.site_secret.__wrapped__(Settings(data_dir=tmp_path / "new"))

    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(ask, range(8)))
    assert len(secrets) == 1
    assert len(secrets.pop()) == 32
    [file] = (tmp_path / "new").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_is_set_is_taken(tmp_path):
    """FAAL_SECRET takes precedence over the file, and is displayed nowhere."""
    settings = Settings(data_dir=tmp_path, secret="s" * 32)
    assert keys.site_secret(settings) == b"s" * 32
    assert "ssss" not in repr(settings)
    assert not list(tmp_path.iterdir())


def test_a_secret_that_is_lost_is_no_secret(tmp_path):
    """An empty file, which a full disk can leave, is refused, since anyone could sign with it."""
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(CannotStart, match="damaged"):
        keys.site_secret(Settings(data_dir=tmp_path))


def test_a_short_secret_is_refused_and_not_told(tmp_path):
    """Neither the settings nor the error about a secret that is short enough to guess show it."""
    settings = Settings(data_dir=tmp_path, secret="s3cret")
    with pytest.raises(CannotStart, match="FAAL_SECRET") as refusal:
        keys.site_secret(settings)
    assert "s3cret" not in f"{refusal.value} {settings!r}"
