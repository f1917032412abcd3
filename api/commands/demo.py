"""`python -m api.commands.demo`: the whole way over HTTP, in a service of its own that ends with it.

Uploads the bundled classifier, fine-tunes it on the bundled images, and saves the report and the new weights.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.client import Client, ServiceProblem, UploadRejected
from api.schemas.resources import EventResource
from faal_core.reports import terminal
from faal_core.results.documents import AttackRow, AuditReport
from faal_core.results.finetune_documents import EpochRow, FinetuneReport
from faal_core.specs import AuditSettings, FinetuneSpec
from faal_core.threat_model import ThreatModel

CLASSIFIER = files("faal_core").joinpath("bundled/classifier.safetensors")
DATASET = "fashion-mnist-subset"
SPEC = FinetuneSpec(threat=ThreatModel(epsilon=0.1), audit=AuditSettings(images=2000))
"""The defaults, which `faal finetune` and the start form use too; fewer test images, so that it takes some minutes."""

POLL_SECONDS = 0.5
START_SECONDS = 60.0  # for the service to answer
STOP_SECONDS = 60.0  # for the service and its worker to end
ROWS: dict[str, type[AttackRow] | type[EpochRow]] = {"attack": AttackRow, "epoch": EpochRow}

console = Console(highlight=False, markup=False, soft_wrap=True)


class ServiceFailed(Exception):
    """The demo's own service did not come up; the message ends with its last lines."""


def main() -> int:
    """The exit status: 0 when the results are saved, 130 after Ctrl-C, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m api.commands.demo", description="Fine-tune a classifier through the service."
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the results")
    out: Path = parser.parse_args().out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with service() as url, Client(url) as client:
            console.print(f"The service listens on {url}.")
            report = finetune(client, out)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (ServiceFailed, ServiceProblem, UploadRejected, httpx.TransportError) as error:
        console.print(str(error))
        return 1
    console.print(f"\n{terminal.summary(report)}\n")
    console.print(f"The page is {out / 'report.html'}; the other results are beside it.")
    return 0


def finetune(client: Client, out: Path) -> FinetuneReport:
    """Fine-tune the bundled classifier, save the report and any new weights in `out`, and return the report."""
    with as_file(CLASSIFIER) as file:
        model = client.wait_until_ready(client.upload_model(file, name="bundled classifier"))
    console.print(f"Uploaded the bundled classifier: {model.id}.")
    job = client.submit_finetune(model.id, DATASET, SPEC)
    console.print(f"Fine-tuning on {DATASET} against {SPEC.threat}: {job.id}.")
    report = follow(client, job.id)
    made = client.job(job.id).result_model
    if not isinstance(report, FinetuneReport):
        raise TypeError(f"{job.id} made no fine-tuning report")
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(report.model_dump_json(indent=2), "utf-8")
    (out / "report.html").write_text(client.report_page(job.id), "utf-8")
    if made is not None:
        client.download_weights(made, out / "weights.safetensors")
    return report


def follow(client: Client, job_id: str) -> AuditReport | FinetuneReport:
    """The job's report; until it is there, a line for each finished attack and epoch above a bar for the stage."""
    with stage_bar(client, job_id):
        for event in client.events(job_id):
            if line := event_line(event):
                console.print(line)
    return client.report(job_id)


@contextmanager
def stage_bar(client: Client, job_id: str) -> Iterator[None]:
    """Shows how far the job's present stage is, while the block lasts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("queued", total=None)

        def watch() -> None:
            with suppress(httpx.TransportError, ServiceProblem):  # whoever reads the events learns of it too
                while not ended.wait(POLL_SECONDS):
                    job = client.job(job_id)
                    done, total = (job.progress.done, job.progress.total) if job.progress else (0, None)
                    bars.update(bar, description=job.stage or job.status, completed=done, total=total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def event_line(event: EventResource) -> str | None:
    """A finished attack or epoch as a line; other events are not told."""
    if event.kind not in ROWS:
        return None
    fields = {name: value for name, value in event.body.items() if name != "stage"}
    return terminal.row_line(event.body["stage"], ROWS[event.kind].model_validate(fields))


@contextmanager
def service() -> Iterator[str]:
    """The address of a fresh service with a worker; both end with the block, and what they stored goes.

    Raises: ServiceFailed.
    """
    with tempfile.TemporaryDirectory(prefix="faal-demo-") as folder:
        log = Path(folder, "log")
        port = _free_port()
        own = {"FAAL_DATA_DIR": folder, "FAAL_HOST": "127.0.0.1", "FAAL_PORT": str(port)}
        elsewhere = {"FAAL_DATABASE_URL", "FAAL_BROKER_URL", "FAAL_STORE_URL"}
        kept = {name: value for name, value in os.environ.items() if name not in elsewhere}
        command = [sys.executable, "-m", "api", "--with-worker"]
        with (
            log.open("wb") as output,
            subprocess.Popen(  # noqa: S603 - our own module
                command, env=kept | own, stdout=output, stderr=output, start_new_session=True
            ) as process,
        ):
            try:
                _await_ready(process, f"http://127.0.0.1:{port}", log)
                yield f"http://127.0.0.1:{port}"
            finally:
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Nothing, once the service answers. Raises: ServiceFailed when it ends or stays silent."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.2)
    raise ServiceFailed("The service did not start:\n" + "\n".join(log.read_text("utf-8").splitlines()[-20:]))


if __name__ == "__main__":
    sys.exit(main())
