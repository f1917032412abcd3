"""Events of a job: as pages, and as a stream."""

import threading
import time

import httpx
import pytest

STREAM = {"Accept": "text/event-stream"}


def field_values(lines: list[str], field: str) -> list[str]:
    """Return the values of a field of all events in a stream."""
    return [line.removeprefix(f"{field}: ") for line in lines if line.startswith(f"{field}: ")]


@pytest.fixture
def job(web) -> str:
    """Return the id of an audit that was claimed and has recorded one attack."""
    job_id = web.audit()
    web.run(job_id)(stage="clean", total=10, event=("attack", {"name": "PGD-10"}))
    return job_id


def test_pages_of_events(web, job) -> None:
    """Pages of events follow each other by sequence number, without gaps or duplicates."""
    first = web.client.get(f"/jobs/{job}/events", params={"limit": 2}).json()
    assert [event["kind"] for event in first["data"]] == ["queued", "running"]
    assert first["has_more"]
    second = web.client.get(f"/jobs/{job}/events", params={"after": first["last_seq"]}).json()
    assert [event["kind"] for event in second["data"]] == ["attack"]
    assert second["data"][0]["body"] == {"name": "PGD-10"}
    assert not second["has_more"]
    empty = web.client.get(f"/jobs/{job}/events", params={"after": second["last_seq"]}).json()
    assert (empty["data"], empty["last_seq"]) == ([], second["last_seq"])
    assert web.client.get(f"/jobs/{job}/events", params={"after": 2**31 - 1}).json()["data"] == []
    assert web.client.get(f"/jobs/{job}/events", params={"after": 2**31}).status_code == 422


def test_a_stream_replays_goes_on_and_ends(web, job) -> None:
    """A stream replays past events, sends new ones at once, and ends with the job's last state."""
    lines, live = [], threading.Event()

    def follow() -> None:
        with httpx.stream("GET", f"{web.client.base_url}/jobs/{job}/events", headers=STREAM, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                lines.append(line)
                if line == "event: attack":
                    live.set()

    follower = threading.Thread(target=follow)
    follower.start()
    assert live.wait(10)
    web.succeed(job)
    follower.join(10)
    assert not follower.is_alive()
    assert field_values(lines, "event") == ["queued", "running", "attack", "succeeded"]
    page = web.client.get(f"/jobs/{job}/events").json()
    assert field_values(lines, "id") == [str(event["seq"]) for event in page["data"]]


def test_a_stream_goes_on_after_the_last_event(web, job) -> None:
    """A browser that reconnects with Last-Event-ID gets the missed events, and 204 when the job has ended and none is missing."""
    web.succeed(job)
    events = web.client.get(f"/jobs/{job}/events").json()["data"]
    missing = web.client.get(f"/jobs/{job}/events", headers=STREAM | {"Last-Event-ID": str(events[1]["seq"])})
    assert field_values(missing.text.splitlines(), "event") == ["attack", "succeeded"]
    nothing = web.client.get(f"/jobs/{job}/events", headers=STREAM | {"Last-Event-ID": str(events[-1]["seq"])})
    assert nothing.status_code == 204


def test_refusals_come_before_the_stream(web, problem) -> None:
    """An unknown job and a wrong Last-Event-ID are problems with a status, not events."""
    assert problem(web.client.get("/jobs/job_0/events", headers=STREAM))["status"] == 404
    for number in ("x", "-1", str(2**63)):
        wrong = problem(web.client.get("/jobs/job_0/events", headers=STREAM | {"Last-Event-ID": number}))
        assert (wrong["status"], wrong["errors"][0]["parameter"]) == (422, "last-event-id")


@pytest.mark.slow
def test_a_silent_stream_pings(web, job) -> None:
    """A stream without events sends a ping every 15 seconds, so that no proxy closes it."""
    start = time.monotonic()
    with httpx.stream("GET", f"{web.client.base_url}/jobs/{job}/events", headers=STREAM, timeout=30) as answer:
        pings = 0
        for line in answer.iter_lines():
            pings += line == ": ping"
            if pings == 2:
                break
    assert 14 < time.monotonic() - start < 20
    web.client.post(f"/jobs/{job}/cancel")


def test_many_streams_leave_room_for_others(own_web, problem) -> None:
    """Streams beyond an owner's limit get 503, other requests are answered, and streams that end make room again."""
    job = own_web.audit()
    address = f"{own_web.client.base_url}/jobs/{job}/events"
    limits = httpx.Limits(max_connections=100)
    with httpx.Client(headers=STREAM, timeout=30, limits=limits) as client:
        streams = [client.send(client.build_request("GET", address), stream=True) for _ in range(25)]
        assert all(stream.status_code == 200 for stream in streams)
        refusal = problem(own_web.client.get(f"/jobs/{job}/events", headers=STREAM))
        assert (refusal["status"], refusal["code"]) == (503, "service-busy")
        start = time.monotonic()
        assert own_web.client.get("/jobs").status_code == 200
        assert time.monotonic() - start < 10  # before a stream's first ping
        for stream in streams:
            stream.close()
    deadline = time.monotonic() + 10
    while True:
        with own_web.client.stream("GET", f"/jobs/{job}/events", headers=STREAM) as answer:
            if answer.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.2)
