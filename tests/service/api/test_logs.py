"""What the service and its workers log: by request, by job, and as asked for."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs.keys import Scope
from jobs.states import JobState
from tests.service.api.conftest import Web
from tests.service.processes import Site, until
from tests.service.small_jobs import submit_audit


def lines(log: Path) -> list[dict[str, Any]]:
    """Every line, each of which is a JSON object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_as_json_every_line_is_one(open_site: Callable[..., Site], weights_file: Path) -> None:
    """Lines of requests name the request and the key that asked, and not the key itself; workers' lines are objects too."""
    site = open_site(log_format="json")
    process, client = site.api()
    with closing(client):
        bearer = Web(site, process, client).key("ann", Scope.READ)
        client.get("/jobs?limit=3", headers=bearer | {"X-Request-Id": "find-me"})
        until(lambda: any(line.get("request_id") == "find-me" for line in lines(process.log)), 10)
    [asked] = [line for line in lines(process.log) if line.get("request_id") == "find-me"]
    assert asked["event"] == "GET /jobs?limit=3 200"
    assert asked["key_id"].startswith("key_")
    assert asked["level"] == "info"
    assert {"timestamp", "logger", "process", "seconds"} <= set(asked)
    assert bearer["Authorization"].split()[1] not in process.log.read_text()

    worker = site.worker()
    job_id = submit_audit(site, weights_file)
    site.queue.ring(job_id)
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED
    until(lambda: job_id in worker.log.read_text(), 30)
    assert all("event" in line for line in lines(worker.log))


def test_nobody_writes_lines_of_their_own(own_web: Web) -> None:
    """An address with a line break in it stays one line, with the request's id."""
    own_web.client.get("/jobs/x%0aforged", headers={"X-Request-Id": "odd"})
    until(lambda: "odd" in own_web.process.log.read_text(), 10)
    [line] = [line for line in own_web.process.log.read_text().splitlines() if "forged" in line]
    assert "GET /jobs/x%0Aforged 422" in line
    assert "odd" in line
