"""Measure how long jobs and commands take to begin: from an upload to `ready`, from a submission to the first batch, and `faal`.

    python -m benchmarks.starting [--quick] [--rounds N]

A web service and a worker run as real processes, on SQLite and a folder. In each round a client uploads the bundled classifier,
polls until it is ready, submits an audit of it, and polls until its first images are predicted. The worker starts in the
first round, which is reported apart. Then `faal audit` of ten images runs as a process. From its duration, the duration
of the audit in the report is subtracted. All durations are medians in seconds. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.resources import as_file
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from api.uploads.bundled import CLASSIFIER
from tests.service.processes import Site

POLL_SECONDS = 0.01
AUDIT: dict[str, Any] = {"threat": {"epsilon": "0.1"}, "attacks": [{"type": "pgd", "steps": 2}], "images": 200}


def upload(client: httpx.Client, weights: Path, number: int) -> tuple[str, float]:
    """Return the new model and the seconds from the upload to its end of the check."""
    start = time.monotonic()
    with weights.open("rb") as file:
        answer = client.post("/models", files={"file": (f"{number}.safetensors", file)}, data={"name": str(number)})
    model = answer.raise_for_status().json()
    while (state := client.get(f"/models/{model['id']}").json())["status"] == "validating":
        time.sleep(POLL_SECONDS)
    assert state["status"] == "ready", state
    return model["id"], time.monotonic() - start


def submit(client: httpx.Client, model: str) -> tuple[float, float]:
    """Return the seconds from the submission of an audit to its first images and to its end."""
    start = time.monotonic()
    answer = client.post("/jobs/audit", json={"model": model, "dataset": "fashion-mnist-subset", **AUDIT})
    job, first = answer.raise_for_status().json(), 0.0
    while (state := client.get(f"/jobs/{job['id']}").json())["status"] in ("queued", "running"):
        progress = state.get("progress") or {}
        if not first and progress.get("done"):
            first = time.monotonic() - start
        time.sleep(POLL_SECONDS)
    assert state["status"] == "succeeded", state
    end = time.monotonic() - start
    return first or end, end


def run_command(weights: Path, folder: Path) -> float:
    """Return the seconds of `faal audit` of ten images, without its audit."""
    command = [
        sys.executable,
        "-m",
        "faal_core.cli",
        "audit",
        "--weights",
        str(weights),
        "--dataset",
        "fashion-mnist-subset",
    ]
    command += ["--epsilon", "0.1", "--attacks", "pgd-20", "--images", "10", "--device", "cpu", "--out", str(folder)]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - start
    return seconds - float(json.loads((folder / "report.json").read_text())["seconds"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    uploads, firsts, ends = [], [], []
    with TemporaryDirectory() as name, as_file(CLASSIFIER) as weights:
        site = Site(Path(name), sweep_seconds=10, lease_seconds=30)
        try:
            _, client = site.api()
            site.worker()
            for number in range(rounds + 1):
                model, seconds = upload(client, weights, number)
                uploads.append(seconds)
                first, end = submit(client, model)
                firsts.append(first)
                ends.append(end)
        finally:
            site.close()
        commands = [run_command(weights, Path(name) / f"audit-{number}") for number in range(rounds)]
    print(f"First round: ready after {uploads[0]:.2f}, first batch after {firsts[0]:.2f}.")
    for title, seconds in [
        ("upload to ready", uploads[1:]),
        ("submit to first batch", firsts[1:]),
        ("faal audit without its audit", commands),
    ]:
        print(f"{title}: {statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})")
    figures = {
        "rounds": rounds,
        "upload_to_ready": statistics.median(uploads[1:]),
        "submit_to_first_batch": statistics.median(firsts[1:]),
        "submit_to_end": statistics.median(ends[1:]),
        "faal_audit_without_its_audit": statistics.median(commands),
        "first_upload_to_ready": uploads[0],
        "machine": platform.machine(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
