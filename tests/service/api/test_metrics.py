"""Metrics for operators, in the format of Prometheus."""

from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from faal_client.vocabulary import Scope
from jobs import lifecycle
from tests.service.api.conftest import AUDIT, Web


def samples(answer: httpx.Response) -> dict[tuple[str, ...], float]:
    """Return every figure, by its name and label values."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_figures_are_of_the_whole_site(guarded_web: Web) -> None:
    """Jobs of all owners are counted by kind and status alone, requests by route instead of address; a scope is needed."""
    watcher, ann = guarded_web.key("ops", Scope.METRICS), guarded_web.key("ann", Scope.READ, Scope.SUBMIT)
    client, model = guarded_web.client, guarded_web.model(owner="ann")
    assert client.get("/metrics", headers=ann).json()["code"] == "scope-missing"

    def look() -> dict[tuple[str, ...], float]:
        return samples(client.get("/metrics", headers=watcher))

    def more(name: str, *labels: str) -> Callable[[], float]:
        before = look().get((name, *labels), 0)
        return lambda: look().get((name, *labels), 0) - before

    queued_jobs, succeeded_jobs = (more("faal_jobs", "audit", status) for status in ("queued", "succeeded"))
    leases_lost, crashes = (more(f"faal_jobs_{name}", "audit", "queued") for name in ("leases_lost", "crashes"))
    ran = more("faal_job_run_seconds_count", "audit", "succeeded")
    requests = more("faal_http_requests_total", "GET", "/jobs/{id}", "200")
    lost = more("faal_http_requests_total", "GET", "(none)", "404")
    first, second = (
        client.post("/jobs/audit", headers=ann, json=AUDIT | {"model": model}).json()["id"] for _ in range(2)
    )
    guarded_web.run(first)(gpu_bytes=3 * 2**30)
    guarded_web.succeed(first)
    with guarded_web.site.sessions.begin() as session:
        lifecycle.claim(session, second, worker="silent", lease_seconds=-1)
        lifecycle.take_back(session)
    client.get(f"/jobs/{second}", headers=ann)
    client.get("/nothing-here", headers=ann)
    client.request("MADEUP", "/nothing-here", headers=ann)
    assert (queued_jobs(), succeeded_jobs(), ran(), requests(), lost()) == (1, 1, 1, 1, 1)
    text = client.get("/metrics", headers=watcher).text
    assert not any(own in text for own in (first, second, model, "ann", "nothing-here", "MADEUP"))
    assert look()["faal_jobs_oldest_seconds", "audit", "queued"] > 0
    assert leases_lost() == crashes() == 1
    memory = {status: look()["faal_jobs_gpu_bytes", "audit", status] for status in ("queued", "succeeded")}
    assert memory == {"queued": 0, "succeeded": 3 * 2**30}
    assert client.get(f"/jobs/{first}", headers=ann).json()["gpu_bytes"] == 3 * 2**30
