"""Logs of the service and its workers: by request, by job, and in the configured format."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from faal_client.vocabulary import Scope
from jobs.states import JobState
from tests.service.api.conftest import Web
from tests.service.processes import Site, wait_until
from tests.service.small_jobs import submit_audit


def lines(log: Path) -> list[dict[str, Any]]:
    """Return every line, each of which is a JSON object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_as_json_every_line_is_one(open_site: Callable[..., Site], weights_file: Path) -> None:
    """Each line of a request has the request id and the key's id, never the key itself; workers' lines are JSON objects too."""
    site = open_site(log_format="json")
    process, client = site.api()
    with closing(client):
        bearer = Web(site, process, client).key("ann", Scope.READ)
        client.get("/jobs?limit=3", headers=bearer | {"X-Request-Id": "find-me"})
        wait_until(lambda: any(line.get("request_id") == "find-me" for line in lines(process.log)), 10)
    [line_of_request] = [line for line in lines(process.log) if line.get("request_id") == "find-me"]
    assert line_of_request["event"] == "GET /jobs?limit=3 200"
    assert line_of_request["key_id"].startswith("key_")
    assert line_of_request["level"] == "info"
    assert {"timestamp", "logger", "process", "seconds"} <= set(line_of_request)
    assert bearer["Authorization"].split()[1] not in process.log.read_text()

    worker = site.worker()
    job_id = submit_audit(site, weights_file)
    site.queue.ring(job_id)
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED
    wait_until(lambda: job_id in worker.log.read_text(), 30)
    assert all("event" in line for line in lines(worker.log))


def test_nobody_writes_lines_of_their_own(own_web: Web) -> None:
    """An address with a line break in it stays one line, with the request's id."""
    own_web.client.get("/jobs/x%0aforged", headers={"X-Request-Id": "odd"})
    wait_until(lambda: "odd" in own_web.process.log.read_text(), 10)
    [line] = [line for line in own_web.process.log.read_text().splitlines() if "forged" in line]
    assert "GET /jobs/x%0Aforged 422" in line
    assert "odd" in line
